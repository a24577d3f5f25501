#!/bin/sh
# The first process of the virtual machine, at each of its boots. Plays what is left of the scenes, and powers off after the last one.
# Facts go to the second serial line, everything else to the console.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root
for kind in proc sysfs devtmpfs; do
  case $kind in proc) at=/proc ;; sysfs) at=/sys ;; *) at=/dev ;; esac
  mountpoint -q "$at" || mount -t "$kind" "$kind" "$at"
done
mountpoint -q /run || mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
hostname host1
stty -F /dev/ttyS1 raw -echo
ip link set lo up
modprobe -a i6300esb loop virtio_net
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up

# A file system that can be frozen.
mkdir -p /run/frozen
truncate -s 16M /run/frozen.img
mkfs.ext4 -q -F /run/frozen.img
mount -o loop /run/frozen.img /run/frozen

cd /
"$NODE" /checkout/test/campaigns/watchdog/inside/main.ts >/dev/ttyS1
# All that was written has left the line before the machine is gone.
stty -F /dev/ttyS1 >/dev/null
# A scene that was broken off may have left another file there.
umount -l /proc/sysrq-trigger 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
