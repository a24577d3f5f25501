# Completion of virt-lockctl's command line for fish.

set -l commands list who why clients watch refusals status health check release swap lockspace lease host metrics serve help

# The words on the line that are no options: the command, and what follows it.
function __virt_lockctl_words
    set -l skip 0
    for word in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
        else if contains -- $word -c --connect
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether the command is one of these; any command without a word.
function __virt_lockctl_command
    set -l words (__virt_lockctl_words)
    set -q words[1]; and begin
        not set -q argv[1]; or contains -- $words[1] $argv
    end
end

# Whether this command has no subcommand yet, or the one that is given.
function __virt_lockctl_subcommand -a command subcommand
    set -l words (__virt_lockctl_words)
    test "$words[1]" = $command; and test "$words[2]" = "$subcommand"
end

# The names of the guests that hold locks, but those with a quote or a backslash in them.
function __virt_lockctl_guests
    set -l words (commandline -opc)
    set -l connect
    set -l at (contains -i -- --connect $words; or contains -i -- -c $words)
    and set connect --connect $words[(math $at + 1)]
    virt-lockctl $connect list --json 2>/dev/null | string match -ar '"pid":[0-9]+,"name":"([^"\\\\]*)"' |
        string replace -rf '.*"name":"(.*)"$' '$1' | sort -u
end

complete -c virt-lockctl -f
complete -c virt-lockctl -s c -l connect -r -F -a 'system session' -d 'the daemon'
complete -c virt-lockctl -s h -l help -d 'show help'
complete -c virt-lockctl -n 'not __virt_lockctl_command' -s V -l version -d 'print the version'
for command in $commands
    complete -c virt-lockctl -n 'not __virt_lockctl_command' -a $command
end
complete -c virt-lockctl -n '__virt_lockctl_command list who why clients watch refusals status health check release' -l json -d 'print JSON'
complete -c virt-lockctl -n '__virt_lockctl_command list why' -l lockspace -r -F -d 'in this lockspace'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l all-hosts -d 'those of all hosts in etcd'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l resource -x -d 'only this resource'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l path -r -F -d 'only locks of this file'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l pid -x -a '(__fish_complete_pids)' -d 'only locks of this process'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l uuid -x -d 'only locks of this owner'
complete -c virt-lockctl -n '__virt_lockctl_command list' -l vm -x -a '(__virt_lockctl_guests)' -d 'only locks of this guest'
complete -c virt-lockctl -n '__virt_lockctl_command who why release' -F
complete -c virt-lockctl -n '__virt_lockctl_command why' -l shared -d 'a shared lock'
complete -c virt-lockctl -n '__virt_lockctl_command why' -l autocreate -d 'create the file if it is missing'
complete -c virt-lockctl -n '__virt_lockctl_command clients' -l locks -d 'with the locks'
complete -c virt-lockctl -n '__virt_lockctl_command clients' -l admin -d 'those of the admin socket, too'
complete -c virt-lockctl -n '__virt_lockctl_command watch' -l no-clients -d 'without connections'
complete -c virt-lockctl -n '__virt_lockctl_command health check' -s q -l quiet -d 'print nothing'
complete -c virt-lockctl -n '__virt_lockctl_command health' -s a -l all -d 'print every finding'
complete -c virt-lockctl -n '__virt_lockctl_command release' -l dead -d 'only what dead owners hold'
complete -c virt-lockctl -n '__virt_lockctl_command release' -l local -d 'absent pids are of this pid namespace'
complete -c virt-lockctl -n '__virt_lockctl_command release' -s y -l yes -d 'do not ask'
complete -c virt-lockctl -n '__virt_lockctl_command swap' -l to -r -F -a 'node c' -d 'the program'
complete -c virt-lockctl -n '__virt_lockctl_command swap' -s n -l dry-run -d 'change nothing'
complete -c virt-lockctl -n '__virt_lockctl_command swap' -l force -d 'go on if a check fails'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace' -a 'create list test'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lease' -a 'create delete list'
complete -c virt-lockctl -n '__virt_lockctl_subcommand host' -a 'list fence'
complete -c virt-lockctl -n '__virt_lockctl_subcommand host fence' -s y -l yes -d 'do not ask'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace list; or __virt_lockctl_subcommand lockspace test; or __virt_lockctl_subcommand lease list; or __virt_lockctl_subcommand host list' -l json -d 'print JSON'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace create; or __virt_lockctl_subcommand lockspace test' -F
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace test' -l peer -x -d 'runs commands on another host'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace test' -l also -x -a '(__fish_complete_directories)' -d 'its path there, or a second mount'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace test' -l limit -x -d 'seconds for an answer of the storage'
complete -c virt-lockctl -n '__virt_lockctl_subcommand lockspace test' -l serve -d 'be the peer'
for subcommand in create delete list
    complete -c virt-lockctl -n "__virt_lockctl_subcommand lease $subcommand" -F
end
complete -c virt-lockctl -n '__virt_lockctl_command metrics' -l write -r -F -d 'write to this file'
complete -c virt-lockctl -n '__virt_lockctl_command metrics' -l interval -x -d 'seconds between two writes'
complete -c virt-lockctl -n '__virt_lockctl_command serve' -l port -x -d 'listen on this port'
complete -c virt-lockctl -n '__virt_lockctl_command serve' -l token-file -r -F -d 'take the token from this file'
