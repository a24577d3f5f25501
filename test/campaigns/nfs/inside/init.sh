#!/bin/sh
# The first process of the virtual machine: the NFS server's host, and two more hosts as namespaces. Runs the scenes and powers off.
# Facts go to the second serial line, everything else to the console.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root
for kind in proc sysfs devtmpfs; do
  case $kind in proc) at=/proc ;; sysfs) at=/sys ;; *) at=/dev ;; esac
  mountpoint -q "$at" || mount -t "$kind" "$kind" "$at"
done
mountpoint -q /run || mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
hostname server
stty -F /dev/ttyS1 raw -echo
ip link set lo up

# The server. What is sure to be short: a lease of 12 s, and a grace period of 12 s.
modprobe lockd nlm_grace_period=12
modprobe nfsd
mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /run/rpc_pipefs /run/sendsigs.omit.d /srv/export
mount -t rpc_pipefs sunrpc /run/rpc_pipefs
echo 12 >/proc/fs/nfsd/nfsv4leasetime
echo 12 >/proc/fs/nfsd/nfsv4gracetime
rpcbind
rpc.statd --no-notify
# Knows over a restart of the server which clients may reclaim their locks.
nfsdcld
exportfs -o rw,no_root_squash,no_subtree_check,insecure,fsid=1 10.0.0.0/24:/srv/export
rpc.mountd
rpc.nfsd 8

# The network: a bridge, with the server and two hosts.
ip link add br0 type bridge
ip addr add 10.0.0.1/24 dev br0
ip link set br0 up
for number in 1 2; do
  ip netns add "h$number"
  ip link add "v$number" type veth peer name eth0 netns "h$number"
  ip link set "v$number" master br0 up
  ip -n "h$number" addr add "10.0.0.1$number/24" dev eth0
  ip -n "h$number" link set eth0 up
  ip -n "h$number" link set lo up
done

cd /
"$NODE" /checkout/test/campaigns/nfs/inside/main.ts >/dev/ttyS1
# All that was written has left the line before the machine is gone.
stty -F /dev/ttyS1 >/dev/null
echo o >/proc/sysrq-trigger
sleep 60
