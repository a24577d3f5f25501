#!/bin/sh
# Installs PACKAGE in a copy of TREE, an overlay in DIRECTORY, and checks the lock daemons there; see conformance.ts, which runs it by
# `unshare --mount --propagation private`.
#
#   conformance.sh TREE DIRECTORY PACKAGE CHECKOUT "NAME=PROGRAM..." [OPTION...]     DIRECTORY/NAME.json: the results
set -e
# Everything takes some ten times as long as natively.
patience=10
tree=$1 directory=$2 package=$3 checkout=$4 daemons=$5
shift 5
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
for kernel in proc dev; do mount --rbind "/$kernel" "/mnt/root/$kernel"; done
mount -t tmpfs tmpfs /mnt/root/run
cp "$package" /mnt/root/package.deb
chroot /mnt/root dpkg --install /package.deb >"$directory/installed" 2>&1 || { cat "$directory/installed"; exit 1; }
chroot /mnt/root /usr/sbin/virtlockd --version >>"$directory/installed"
umount -l /mnt/root/run /mnt/root/dev /mnt/root/proc
rm /mnt/root/package.deb
for daemon in $daemons; do
  echo "checks with ${daemon#*=}"
  status=0
  "$checkout/bin/virtlockd-conformance" --root-of /mnt/root --patience "$patience" --json "$directory/${daemon%%=*}.json" "$@" -- "${daemon#*=}" ||
    status=$?
  # 1: some failed.
  [ "$status" -le 1 ] || exit "$status"
done
