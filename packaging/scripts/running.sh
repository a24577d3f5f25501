# The build includes this in scripts that put this package's program in libvirt's place. They have common.sh, too.

# Gives libvirt's program at the daemon's path its second name.
keep_libvirts() {
  if [ -e "$program" ] && ! is_ours && ! [ "$program" -ef "$libvirts" ]; then
    ln -fT "$program" "$libvirts.new"
    mv -fT "$libvirts.new" "$libvirts"
  fi
}

# systemd reads our units. Where libvirt has none, nobody else has enabled them.
load_units() {
  if systemd_runs; then
    systemctl daemon-reload || :
    # The sockets, which would start it, may be active already.
    systemctl start --no-block virtlockd-guests.target || :
  fi
  if ! libvirt_has_units && command -v systemctl >/dev/null; then
    systemctl enable virtlockd.socket virtlockd-admin.socket || :
    # Not while a daemon listens on its own sockets: systemd would take their paths from it.
    if systemd_runs && ! [ -S /run/libvirt/virtlockd-sock ]; then
      systemctl start virtlockd.socket virtlockd-admin.socket || :
    fi
  fi
}

# Whether the unit's process runs this package's program.
is_ours_running() {
  case $(readlink "/proc/$(systemctl show --value --property=MainPID virtlockd.service)/exe") in
    "$lib"/*) ;;
    *) return 1 ;;
  esac
}

# A daemon that has taken over from libvirt's executes itself again, by our unit: its locks outlive it from here on. Not libvirt's own
# daemon, which was left as it is, or was not known as one: it would execute our program at any moment, and nobody has looked whether it can.
find_store() {
  if [ "$status" = 0 ] && systemd_runs && systemctl --quiet is-active virtlockd.service && is_ours_running; then
    systemctl reload virtlockd.service || :
    # It has only been signalled. Until its locks are stored, a stop would end their owners: wait for that, 5 s at most.
    for _ in $(seq 50); do
      [ "$(systemctl show --value --property=NFileDescriptorStore virtlockd.service)" = 0 ] || break
      sleep 0.1
    done
  fi
}

swap() {
  status=0
  "$lib/bin/virtlockd-swap" || status=$?
  case $status in
    0) ;;
    75)
      say "the running lock daemon was left as it is, with its locks. When no request is under way, have it execute this"
      say "package's program: $lib/bin/virtlockd-swap"
      ;;
    *)
      say "the running lock daemon does not go on in this package's program: see above"
      exit 1
      ;;
  esac
}
