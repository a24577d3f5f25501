# Completion of virt-lockctl's command line for bash.

# The names of the guests that hold locks, but those with a quote or a backslash in them.
_virt_lockctl_guests() {
  virt-lockctl "$@" list --json 2>/dev/null | grep -o '"pid":[0-9]*,"name":"[^"\\]*"' | cut -d'"' -f6 | sort -u
}

_virt_lockctl() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local commands='list who why clients watch refusals status health check release swap lockspace lease host metrics serve help'
  local word words command='' subcommand='' index connect=()

  for ((index = 1; index < COMP_CWORD; index++)); do
    word=${COMP_WORDS[index]}
    case $word in
      -c | --connect) connect=(--connect "${COMP_WORDS[++index]}") ;;
      -*) ;;
      *)
        if [[ -z $command ]]; then
          command=$word
        elif [[ -z $subcommand ]]; then
          subcommand=$word
        fi
        ;;
    esac
  done

  COMPREPLY=()
  case $previous in
    -c | --connect)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -W 'system session' -- "$current"; compgen -f -- "$current")
      return
      ;;
    --to)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -W 'node c' -- "$current"; compgen -f -- "$current")
      return
      ;;
    --peer)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -c -- "$current")
      return
      ;;
    --also)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      return
      ;;
    --lockspace | --path | --write | --token-file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --vm)
      compopt -o filenames 2>/dev/null
      local IFS=$'\n'
      mapfile -t COMPREPLY < <(compgen -W "$(_virt_lockctl_guests "${connect[@]}")" -- "$current")
      return
      ;;
    --pid | --uuid | --resource | --interval | --port | --limit)
      return
      ;;
  esac

  if [[ $current == -* ]]; then
    words='--connect --help'
    case $command in
      '') words+=' --version' ;;
      list) words+=' --json --all-hosts --lockspace --resource --path --pid --uuid --vm' ;;
      who | refusals | status) words+=' --json' ;;
      why) words+=' --lockspace --shared --autocreate --json' ;;
      clients) words+=' --locks --admin --json' ;;
      watch) words+=' --json --no-clients' ;;
      health) words+=' --json --all --quiet' ;;
      check) words+=' --json --quiet' ;;
      release) words+=' --dead --local --yes --json' ;;
      swap) words+=' --to --dry-run --force' ;;
      lockspace | lease | host)
        [[ $command == host && $subcommand == fence ]] && words+=' --yes'
        [[ $subcommand == list ]] && words+=' --json'
        [[ $command == lockspace && $subcommand == test ]] && words+=' --peer --also --limit --serve --json'
        ;;
      metrics) words+=' --write --interval' ;;
      serve) words+=' --port --token-file' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    return
  fi

  case $command in
    '' | help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
    lockspace)
      if [[ -z $subcommand ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'create list test' -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
      fi
      ;;
    host)
      [[ -z $subcommand ]] && mapfile -t COMPREPLY < <(compgen -W 'list fence' -- "$current")
      ;;
    lease)
      if [[ -z $subcommand ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'create delete list' -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
      fi
      ;;
    who | why | release)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
  esac
}

complete -F _virt_lockctl virt-lockctl
