# Completion of virtlockd's command line for bash.

_virtlockd() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} option

  # bash takes --name=value for three words.
  if [[ $current == = ]]; then
    option=$previous
    current=
  elif [[ $previous == = && $COMP_CWORD -ge 2 ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  else
    option=$previous
  fi

  COMPREPLY=()
  case $option in
    --config | --pid-file | --check-state | -f | -p)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --root)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      return
      ;;
    --timeout | -t)
      mapfile -t COMPREPLY < <(compgen -W '0 30 120' -- "$current")
      return
      ;;
  esac

  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '-h --help -v --verbose -d --daemon -t --timeout -f --config -V --version
      -p --pid-file --root --check-state' -- "$current")
  fi
}

complete -F _virtlockd virtlockd
