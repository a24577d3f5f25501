# Completion of virtlockd-trace's command line for fish.

complete -c virtlockd-trace -f
complete -c virtlockd-trace -l interpose -r -F -d 'stand between daemon and clients at this socket'
complete -c virtlockd-trace -l listen -r -F -d 'listen here'
complete -c virtlockd-trace -l connect -r -F -d 'pass on to this socket'
complete -c virtlockd-trace -l strace -r -F -d 'read the output of strace'
complete -c virtlockd-trace -l pcap -r -F -d 'read a pcap file'
complete -c virtlockd-trace -l write-pcap -r -F -d 'write a pcap file'
complete -c virtlockd-trace -l json -d 'print JSON'
complete -c virtlockd-trace -l help -d 'show help'
complete -c virtlockd-trace -l version -d 'print the version'
