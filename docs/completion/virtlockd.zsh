#compdef virtlockd
# Completion of virtlockd's command line for zsh.

_arguments '(- *)'{-h,--help}'[show help]' '(-v --verbose)'{-v,--verbose}'[log more]' \
  '(-d --daemon)'{-d,--daemon}'[run in the background]' '(-t --timeout)'{-t,--timeout}'[end after idle seconds]:seconds:(0 30 120)' \
  '(-f --config)'{-f,--config}'[configuration]:file:_files' '(- *)'{-V,--version}'[print the version]' \
  '(-p --pid-file)'{-p,--pid-file}'[pid file]:file:_files' '--root[put all paths below this directory]:directory:_directories' \
  '--check-state[prove that a state can be read]:file:_files'
