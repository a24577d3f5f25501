#compdef virt-lockctl
# Completion of virt-lockctl's command line for zsh.

# The names of the guests that hold locks, but those with a quote or a backslash in them.
_virt_lockctl_guests() {
  local -a connect guests
  (( ${+opt_args[--connect]} )) && connect=(--connect ${(Q)opt_args[--connect]})
  guests=(${(f)"$(virt-lockctl $connect list --json 2>/dev/null |
    grep -o '"pid":[0-9]*,"name":"[^"\\]*"' | cut -d'"' -f6 | sort -u)"})
  compadd -a guests
}

_virt_lockctl() {
  local state line
  local -a commands common
  commands=(
    'list:list the locks that are held'
    'who:show who holds a file'
    'why:predict whether locking a file would succeed now'
    'clients:list the connections'
    'watch:print changes as they happen'
    'refusals:list the last refused acquires'
    'status:show version, uptime, limits and warnings'
    'health:say whether this host is safe'
    'check:verify every lock against the kernel'
    'release:release the locks of owners that are dead'
    'swap:replace the program of the running daemon, live'
    'lockspace:create, list or test lockspaces'
    'lease:create, delete or list leases'
    'host:list the hosts with locks in etcd, or free a dead one'
    'metrics:print metrics for Prometheus'
    'serve:serve a live page'
    'help:show help'
  )
  common=(
    '(-c --connect)'{-c,--connect}'[the daemon]:daemon:_virt_lockctl_daemons'
    '(- *)'{-h,--help}'[show help]'
  )
  _arguments -C $common '(- *)'{-V,--version}'[print the version]' '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
        list)
          _arguments $common '--json[print JSON]' '--all-hosts[those of all hosts in etcd]' '--lockspace[only locks of this lockspace]:directory:_directories' \
            '--resource[only this resource]:name:' '--path[only locks of this file]:file:_files' \
            '--pid[only locks of this process]:pid:_pids' '--uuid[only locks of this owner]:uuid:' \
            '--vm[only locks of this guest]:guest:_virt_lockctl_guests'
          ;;
        who) _arguments $common '--json[print JSON]' '1:file:_files' ;;
        why)
          _arguments $common '--json[print JSON]' '--lockspace[in this lockspace]:directory:_directories' \
            '--shared[a shared lock]' '--autocreate[create the file if it is missing]' '1:file:_files'
          ;;
        clients) _arguments $common '--json[print JSON]' '--locks[with the locks]' '--admin[those of the admin socket, too]' ;;
        watch) _arguments $common '--json[print JSON]' '--no-clients[without connections]' ;;
        refusals | status) _arguments $common '--json[print JSON]' ;;
        check) _arguments $common '--json[print JSON]' '(-q --quiet)'{-q,--quiet}'[print nothing]' ;;
        health)
          _arguments $common '--json[print JSON]' '(-a --all)'{-a,--all}'[print every finding]' \
            '(-q --quiet)'{-q,--quiet}'[print nothing if all is well]'
          ;;
        release)
          _arguments $common '--json[print JSON]' '--dead[only what dead owners hold]' \
            '--local[absent pids are of this pid namespace]' '(-y --yes)'{-y,--yes}'[do not ask]' '1:file:_files'
          ;;
        swap)
          _arguments $common '--to[the program]:program:_virt_lockctl_programs' \
            '(-n --dry-run)'{-n,--dry-run}'[change nothing]' '--force[go on if a check fails]'
          ;;
        lockspace)
          _arguments $common '--json[print JSON]' '--peer[runs commands on another host]:command:_command_names' \
            '--also[its path there, or a second mount]:directory:_directories' \
            '--limit[for an answer of the storage]:seconds:' '--serve[be the peer]' \
            '1:command:(create list test)' '*:directory:_directories'
          ;;
        lease) _arguments $common '--json[print JSON]' '1:command:(create delete list)' '*:directory:_directories' ;;
        host) _arguments $common '--json[print JSON]' '(-y --yes)'{-y,--yes}'[do not ask]' '1:command:(list fence)' '2:host:' ;;
        metrics)
          _arguments $common '--write[write to this file]:file:_files' '--interval[write at this interval]:seconds:'
          ;;
        serve)
          _arguments $common '--port[listen on this port]:port:' '--token-file[take the token from this file]:file:_files'
          ;;
        help) _describe command commands ;;
      esac
      ;;
  esac
}

_virt_lockctl_daemons() { _alternative 'daemons:daemon:(system session)' 'files:socket:_files' }
_virt_lockctl_programs() { _alternative 'programs:program:(node c)' 'files:program:_files' }

_virt_lockctl "$@"
