#!/bin/bash
# Builds the trees the tests run real libvirt in, one per generation, outside the checkout.
#
#   scripts/lab.sh [TREE...]     bullseye (libvirt 7.0.0), trixie (11.3.0), sid (12.8.0), bookworm-systemd (9.0.0) and
#                                trixie-systemd (11.3.0), which boot under systemd-nspawn, and bookworm-upkeep, which does
#                                so too and has what maintains a host, and Debian 13's packages to be upgraded to; without
#                                an argument all of them, at most two at a time. By name only: bookworm-nfs (9.0.0, kernel
#                                6.1), of which `npm run nfs` and `npm run etcd:watchdog` make virtual machines, bullseye-kernel
#                                (5.10 alone), of which `npm run nfs` does, and bookworm-arm64 (9.0.0, kernel 6.1), of which
#                                `npm run arm64` does
#
# VIRTLOCKD_LAB names the directory that holds them, VIRTLOCKD_MIRROR the Debian archive to take them from.
# A finished tree carries a stamp, /.virtlockd-lab, with its recipe and its packages' versions, and is used again.
set -euo pipefail

cache=${VIRTLOCKD_LAB:-/var/cache/virtlockd-lab}
# Empty: debootstrap's own default.
mirror=${VIRTLOCKD_MIRROR:-}
known=(trixie sid bullseye bookworm-systemd trixie-systemd bookworm-upkeep)
by_name=(bookworm-nfs bullseye-kernel bookworm-arm64)

# The packages of a tree, beyond a minimal Debian. libvirt-daemon-system fails to configure in bullseye: left out there.
packages() {
  case $1 in
    bullseye) echo libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 procps ;;
    trixie | sid)
      echo libvirt-daemon libvirt-daemon-lock libvirt-daemon-plugin-lockd libvirt-daemon-common libvirt-daemon-driver-qemu \
        libvirt-clients qemu-system-x86 procps
      ;;
    bookworm-systemd)
      echo systemd systemd-sysv dbus procps libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients \
        qemu-system-x86
      ;;
    trixie-systemd)
      echo systemd systemd-sysv dbus procps libvirt-daemon libvirt-daemon-system libvirt-daemon-lock \
        libvirt-daemon-plugin-lockd libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86
      ;;
    bookworm-nfs)
      echo linux-image-amd64 initramfs-tools nfs-kernel-server nfs-common rpcbind iproute2 kmod procps python3 libvirt-daemon
      ;;
    bookworm-upkeep)
      echo "$(packages bookworm-systemd)" needrestart unattended-upgrades python3-dbus
      ;;
    bookworm-arm64)
      echo linux-image-arm64 initramfs-tools systemd systemd-sysv dbus kmod procps iproute2 python3 libvirt-daemon libvirt-daemon-system \
        libvirt-clients
      ;;
    bullseye-kernel) echo linux-image-amd64 initramfs-tools ;;
    *)
      echo "lab: no tree called '$1'; there are: ${known[*]} ${by_name[*]}" >&2
      exit 2
      ;;
  esac
}

# Debian's name of a tree's architecture, where it is not this machine's.
architecture() { case $1 in *-arm64) echo arm64 ;; esac; }

# What a tree has before its packages.
prepare() {
  local tree=$2
  case $1 in
    bookworm-arm64)
      # Few modules, of the machine that `npm run arm64` emulates: each takes a second here.
      mkdir -p "$tree/etc/initramfs-tools/conf.d"
      echo 'MODULES=list' >"$tree/etc/initramfs-tools/conf.d/lab"
      printf '%s\n' virtio_pci virtio_blk ext4 >"$tree/etc/initramfs-tools/modules"
      ;;
  esac
}

# What a tree has beyond its packages. Runs before the archives of packages are cleared away.
furnish() {
  local tree=$2
  chroot "$tree" apt-get clean
  case $1 in
    bookworm-upkeep)
      # Tests upgrade without a network: with all of Debian 13, and with Debian 12's libvirt once more.
      sed 's/bookworm/trixie/' "$tree/etc/apt/sources.list" >"$tree/etc/apt/sources.list.d/trixie.list"
      chroot "$tree" apt-get update
      chroot "$tree" apt-get --yes --download-only dist-upgrade
      chroot "$tree" apt-get --yes --download-only install libvirt-daemon-lock libvirt-daemon-plugin-lockd libvirt-daemon-system
      mv "$tree/etc/apt/sources.list.d/trixie.list" "$tree/etc/apt/trixie.list"
      chroot "$tree" apt-get --yes --download-only --reinstall install libvirt-daemon libvirt-daemon-system libvirt-clients
      ;;
  esac
}

recipe() { echo "recipe 1: $(packages "$1")$(case $1 in bookworm-upkeep) echo '; 1' ;; esac)"; }

# Has the kernel run the programs of another architecture, also in a chroot, by qemu-user-static. As after a start of the machine with
# Debian's package and systemd.
run_foreign() {
  local formats=/proc/sys/fs/binfmt_misc interpreter=/usr/bin/qemu-aarch64-static
  [ -x "$interpreter" ] || { echo 'lab: qemu-aarch64-static is not installed (package qemu-user-static)' >&2; return 1; }
  [ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats"
  grep -qs '^enabled' "$formats/qemu-aarch64" && return
  # F: the interpreter is opened now, and needs not be in the chroot.
  printf '%s' ":qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$interpreter:OCF" \
    >"$formats/register"
}

finished() { [ "$(head -n 1 "$cache/$1/.virtlockd-lab" 2>/dev/null)" = "$(recipe "$1")" ]; }

# Runs in a mount namespace of its own, so that what it mounts goes away with it, also when it fails.
# debootstrap cannot configure what needs /proc or /dev (polkitd of trixie and sid): it makes the minimum, apt does the rest.
build() {
  local name=$1 suite=${1%-*} tree=$cache/.$1.building architecture
  architecture=$(architecture "$name")
  [ -z "$architecture" ] || run_foreign
  rm -rf --one-file-system "$tree"
  mkdir -p "$tree"
  debootstrap --variant=minbase ${architecture:+--arch="$architecture"} "$suite" "$tree" ${mirror:+"$mirror"}
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod 755 "$tree/usr/sbin/policy-rc.d"
  printf 'force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n' \
    >"$tree/etc/dpkg/dpkg.cfg.d/lab"
  printf 'Acquire::Languages "none";\nAcquire::Retries "3";\nAPT::Install-Recommends "false";\n' \
    >"$tree/etc/apt/apt.conf.d/lab"
  prepare "$name" "$tree"
  mount -t proc proc "$tree/proc"
  mount --rbind /sys "$tree/sys"
  mount --rbind /dev "$tree/dev"
  mount -t tmpfs tmpfs "$tree/run"
  # shellcheck disable=SC2046
  DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$tree" apt-get install --yes $(packages "$name")
  furnish "$name" "$tree"
  umount -l "$tree/run" "$tree/dev" "$tree/sys" "$tree/proc"
  { recipe "$name"; chroot "$tree" dpkg-query -W -f '${Package} ${Version}\n'; } >"$tree/.virtlockd-lab.new"
  mv "$tree/.virtlockd-lab.new" "$tree/.virtlockd-lab"
  # A tree half built by an earlier version of this script may be in use: processes in it keep the moved one.
  if [ -e "$cache/$name" ]; then
    rm -rf --one-file-system "$cache/.$name.old"
    mv "$cache/$name" "$cache/.$name.old"
  fi
  mv "$tree" "$cache/$name"
  rm -rf --one-file-system "$cache/.$name.old"
}

# One tree: its output goes to a file, shown when it fails; a line when it starts and one when it is done.
make_tree() {
  local name=$1 started=$SECONDS log=$cache/$1.log
  exec 9>"$cache/.$name.lock"
  flock 9
  if finished "$name"; then
    echo "lab: $name is there: $(versions "$name")"
    return
  fi
  echo "lab: building $name (log: $log)"
  if unshare -m --propagation private "$0" --build "$name" >"$log" 2>&1 </dev/null; then
    echo "lab: $name built in $((SECONDS - started)) s: $(versions "$name")"
  else
    echo "lab: $name failed; the end of $log:" >&2
    tail -n 40 "$log" >&2
    return 1
  fi
}

versions() { sed -n 's/^\(libvirt0\|qemu-system-x86\|systemd\) /\1 /p' "$cache/$1/.virtlockd-lab" | paste -sd, | sed 's/,/, /g'; }

if [ "${1-}" = --build ]; then
  build "$2"
  exit
fi
if [ "${1-}" = --run-foreign ]; then
  run_foreign
  exit
fi
if [ "$(id -u)" != 0 ]; then
  echo 'lab: trees can only be built by root' >&2
  exit 1
fi
command -v debootstrap >/dev/null || { echo 'lab: debootstrap is not installed' >&2; exit 1; }
[ $# -gt 0 ] || set -- "${known[@]}"
for name; do packages "$name" >/dev/null; done
mkdir -p "$cache"
failed=0
for name; do
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || failed=1; done
  make_tree "$name" &
done
while [ "$(jobs -p | wc -l)" -gt 0 ]; do wait -n || failed=1; jobs >/dev/null; done
exit "$failed"
