#!/bin/sh
# Makes the private root of one lab and waits there; see root.ts, which runs it by `unshare --mount --propagation private`.
#
#   root.sh TREE DIRECTORY [SHARED...]
#
# TREE (/ or a debootstrap tree) is overlaid, so whatever is written, replaced or removed in it stays in this lab.
# DIRECTORY, and each SHARED path, is the same directory inside and outside, at the same path. Everything is gone with
# the namespace. When standard input ends, every process left in the namespace is killed: a test run that dies leaves nothing.
set -e
tree=$1
directory=$2
shift

scratch=$directory/.root
mkdir -p "$scratch"
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
chmod 755 "$scratch/upper"
root=$scratch/root
mount -t overlay -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"
for kernel in proc sys dev; do mount --rbind "/$kernel" "$root/$kernel"; done

# Directories on the way are made readable: the checkout may lie in a home directory, and session mode is an ordinary user's.
reach() {
  parent=$(dirname "$1")
  [ "$parent" = / ] || reach "$parent"
  [ -d "$root$1" ] || mkdir "$root$1"
  case $(stat -c %A "$root$1") in d????????[xt]) ;; *) chmod a+rx "$root$1" ;; esac
}
empty() {
  reach "$1"
  mount -t tmpfs -o "mode=$2" tmpfs "$root$1"
}
empty /run 755
empty /tmp 1777
# The host's own configuration would define networks and guests here.
for private in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do empty "$private" 755; done
for shared; do
  reach "$shared"
  mount --bind "$shared" "$root$shared"
done

# The ordinary user of session mode.
if ! grep -q '^labuser:' "$root/etc/passwd"; then
  echo 'labuser:x:47110:47110::/run/labuser:/bin/sh' >>"$root/etc/passwd"
  echo 'labuser:x:47110:' >>"$root/etc/group"
fi
# libvirt-daemon-system makes this one; bullseye's tree is without that package, and its libvirtd looks the name up all the same.
if ! grep -q '^libvirt-qemu:' "$root/etc/passwd"; then
  echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>"$root/etc/passwd"
  echo 'libvirt-qemu:x:64055:' >>"$root/etc/group"
fi
mkdir -p "$root/run/labuser/runtime"
chmod 700 "$root/run/labuser/runtime"
chown -R 47110:47110 "$root/run/labuser"

# shellcheck disable=SC2016
exec chroot "$root" /bin/sh -c '
cd /
echo ready
while read -r line; do :; done
own=$(readlink /proc/$$/ns/mnt)
for process in /proc/[0-9]*; do
  pid=${process#/proc/}
  [ "$pid" = $$ ] || [ "$(readlink "$process/ns/mnt")" != "$own" ] || kill -KILL "$pid"
done 2>/dev/null
'
