# Completion of virtlockd's command line for fish.

complete -c virtlockd -f
complete -c virtlockd -s h -l help -d 'show help'
complete -c virtlockd -s v -l verbose -d 'log more'
complete -c virtlockd -s d -l daemon -d 'run in the background'
complete -c virtlockd -s t -l timeout -x -a '0 30 120' -d 'end after idle seconds'
complete -c virtlockd -s f -l config -r -F -d 'configuration'
complete -c virtlockd -s V -l version -d 'print the version'
complete -c virtlockd -s p -l pid-file -r -F -d 'pid file'
complete -c virtlockd -l root -x -a '(__fish_complete_directories)' -d 'put all paths below this directory'
complete -c virtlockd -l check-state -r -F -d 'prove that a state can be read'
