#!/bin/sh
# Makes the private root of one lab and waits there; see root.ts, which runs it by `unshare --mount --propagation private`.
#
#   root.sh TREE DIRECTORY [SHARED...]
#
# TREE (/ or a debootstrap tree) is overlaid, so that changes stay in this lab and go with its namespace. DIRECTORY and each SHARED
# path lead to the same directory inside and outside. When standard input ends, every process in the namespace is killed: a test
# run that dies leaves nothing.
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

# Parent directories become readable: the checkout may lie in a home directory, and the ordinary user must reach it.
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
# libvirt-daemon-system makes this user. bullseye's tree lacks that package, but its libvirtd needs the name.
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
