#!/bin/bash
# README's two commands in a fresh clone of HEAD, in a path with a blank: as root and as an ordinary user, with each Node.js from npm, with
# npm's cache empty and then filled. Run it as root, with a network. Of the tests it runs the unit tests, once for each user: they run on the
# pinned Node.js.
#
#   scripts/fresh.sh [VERSION...]      of Node.js; default: 20 22 24
set -euo pipefail
checkout=$(dirname "$(dirname "$(readlink -f "$0")")")
[ $# -gt 0 ] || set -- 20 22 24
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
failed=0

# user NAME COMMAND: in a root of its own, as that user, in the clone.
user() {
  local become=()
  [ "$1" = root ] || become=(setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs)
  # shellcheck disable=SC2016
  unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/user && chmod 777 /run/user && cd "$1" && shift && exec "$@"' sh "$clone" \
    "${become[@]}" env --unset=npm_config_cache HOME="$home" XDG_RUNTIME_DIR=/run/user PATH="$node/node_modules/node/bin:$PATH" \
    sh -c "$2"
}

# try WHAT COMMAND: says how it went.
try() {
  local begin=$SECONDS
  if user "$name" "$2" >"$work/log" 2>&1; then
    echo "ok      $what: $1 ($((SECONDS - begin)) s)"
    grep -nE 'EBADENGINE|warning:' "$work/log" | sed 's/^/          /' || :
  else
    echo "FAILED  $what: $1"
    sed 's/^/          /' "$work/log"
    failed=1
  fi
}

for version; do
  node=$work/node-$version
  npm install --silent --no-fund --prefix "$node" "node@$version"
  for name in root ordinary; do
    home=$work/home-$name-$version
    mkdir "$home"
    for cache in empty filled; do
      what="Node.js $("$node/node_modules/node/bin/node" --version), $name, $cache cache"
      clone="$home/a clone"
      rm -rf "$clone"
      git clone --quiet "$checkout" "$clone"
      [ "$name" = root ] || chown -R 65534:65534 "$home"
      try 'npm ci' "npm ci$([ $cache = empty ] || echo ' --offline')"
      # shellcheck disable=SC2016
      try 'npm start' 'timeout 10 npm start >out 2>&1; cat out; grep -q virtlockd-sock out'
      [ "$version $cache" != "$1 empty" ] || try 'the unit tests' "npm run mocha -- 'test/unit/**/*.test.ts'"
    done
  done
done
exit $failed
