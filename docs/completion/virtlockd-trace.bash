# Completion of virtlockd-trace's command line for bash.

_virtlockd_trace() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}

  COMPREPLY=()
  case $previous in
    --interpose | --listen | --connect | --strace | --pcap | --write-pcap)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
  esac

  if [[ $current == -* || -z $current ]]; then
    mapfile -t COMPREPLY < <(compgen -W '--interpose --listen --connect --strace --pcap --write-pcap --json
      --help --version' -- "$current")
  fi
}

complete -F _virtlockd_trace virtlockd-trace
