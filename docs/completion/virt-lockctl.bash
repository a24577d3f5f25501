# Completion of virt-lockctl's command line for bash.

_virt_lockctl() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local commands='list who why clients watch refusals status check swap lockspace lease metrics serve help'
  local word words command='' subcommand='' index

  for ((index = 1; index < COMP_CWORD; index++)); do
    word=${COMP_WORDS[index]}
    case $word in
      -c | --connect) ((index++)) ;;
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
    --lockspace | --path | --write)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --pid | --uuid | --vm | --resource | --interval | --port)
      return
      ;;
  esac

  if [[ $current == -* ]]; then
    words='--connect --help'
    case $command in
      '') words+=' --version' ;;
      list) words+=' --json --lockspace --resource --path --pid --uuid --vm' ;;
      who | refusals | status) words+=' --json' ;;
      why) words+=' --lockspace --shared --autocreate --json' ;;
      clients) words+=' --locks --admin --json' ;;
      watch) words+=' --json --no-clients' ;;
      check) words+=' --json --quiet' ;;
      swap) words+=' --to --dry-run --force' ;;
      lockspace | lease) [[ $subcommand == list ]] && words+=' --json' ;;
      metrics) words+=' --write --interval' ;;
      serve) words+=' --port' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    return
  fi

  case $command in
    '' | help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
    lockspace)
      if [[ -z $subcommand ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'create list' -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
      fi
      ;;
    lease)
      if [[ -z $subcommand ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'create delete list' -- "$current")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
      fi
      ;;
    who | why)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
  esac
}

complete -F _virt_lockctl virt-lockctl
