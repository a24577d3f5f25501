#!/bin/sh
# Boots TREE under systemd-nspawn with everything it writes in a scratch file system; see machine.ts, which runs it by
# `unshare --mount --propagation private`.
#
#   boot.sh TREE DIRECTORY [SHARED...]     DIRECTORY is the same inside and outside, and so is each SHARED, read-only
set -e
tree=$1
directory=$2
shift 2
for shared; do
  set -- "$@" --bind-ro="$shared"
  shift
done
scratch=$directory/.root
mkdir -p "$scratch"
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
chmod 755 "$scratch/upper"
mount -t overlay -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
# Units that take time at boot and are not needed here.
for unit in e2scrub_reap.service systemd-journal-flush.service getty.target libvirtd.service libvirt-guests.service; do
  ln -sfn /dev/null "$scratch/root/etc/systemd/system/$unit"
done
# systemd 256 and later start on control groups of version 1 only if the kernel's command line has this word; in a container the words
# of the first process count.
# These two capabilities a real machine has, and the guard of locks in etcd needs.
exec systemd-nspawn --quiet --directory="$scratch/root" --register=no --keep-unit --console=pipe --bind="$directory" "$@" \
  --capability=CAP_IPC_LOCK,CAP_WAKE_ALARM --boot \
  SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1
