#compdef virtlockd-trace
# Completion of virtlockd-trace's command line for zsh.

_arguments '--interpose[stand between daemon and clients at this socket]:socket:_files' '--listen[listen here]:socket:_files' \
  '--connect[pass on to this socket]:socket:_files' '--strace[read the output of strace]:file:_files' \
  '--pcap[read a pcap file]:file:_files' '--write-pcap[write a pcap file]:file:_files' '--json[print JSON]' \
  '(- *)--help[show help]' '(- *)--version[print the version]'
