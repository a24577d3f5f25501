#!/bin/sh
# Boots TREE under systemd-nspawn with everything it writes in a scratch file system; see machine.ts, which runs it by
# `unshare --mount --propagation private`. DIRECTORY is the same inside and outside.
set -e
tree=$1
directory=$2
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
exec systemd-nspawn --quiet --directory="$scratch/root" --register=no --keep-unit --console=pipe --bind="$directory" --boot
