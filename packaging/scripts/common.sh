# The build includes this in each maintainer script, and in the RPM package's one.
lib=/usr/lib/virtlockd-node
program=/usr/sbin/virtlockd
libvirts=/usr/sbin/virtlockd.libvirt
units='virtlockd.service virtlockd.socket virtlockd-admin.socket'

say() { echo "virtlockd-node: $*" >&2; }

# Replaces the file at the daemon's path atomically: a running daemon may execute it at any moment, and libvirt's would not
# survive its absence.
put_program() {
  if [ "$1" = launcher ]; then
    ln -sfT "$lib/bin/virtlockd" "$program.new"
  else
    ln -fT "$libvirts" "$program.new"
  fi
  # rename(2) does nothing between two names of one file, and mv reports an error.
  if [ "$program.new" -ef "$program" ] && ! [ -L "$program" ]; then rm -f "$program.new"; else mv -fT "$program.new" "$program"; fi
}

is_ours() { [ "$(readlink "$program")" = "$lib/bin/virtlockd" ]; }

unit_directory=/etc/systemd/system
unit_mark='# Of the package virtlockd-node, which replaces it. Changes belong in a drop-in: systemctl edit.'

# Whether a unit is this package's, or a link to it, as earlier versions made.
is_our_unit() {
  [ "$(readlink "$unit_directory/$1")" = "$lib/systemd/$1" ] ||
    { [ -f "$unit_directory/$1" ] && grep -qsxF "$unit_mark" "$unit_directory/$1"; }
}

# Whether a package of libvirt has the units.
libvirt_has_units() { [ -e /lib/systemd/system/virtlockd.socket ]; }

systemd_runs() { [ -d /run/systemd/system ]; }
