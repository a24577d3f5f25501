#!/bin/sh
# One host, in network, mount and UTS namespaces of its own: see host.ts. It ends with its standard input.
#
#   host.sh NUMBER
set -e
number=$1
hostname "node$number"
for own in /run /tmp /etc/libvirt; do
  mkdir -p "$own"
  mount -t tmpfs -o mode=755 tmpfs "$own"
done
# Of another machine, as far as programs can see: `lockspace test` knows by this whether two sides are one host.
printf '%08d-0000-4000-8000-000000000000\n' "$number" >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
mkdir -p /run/libvirt /run/bin /run/local /run/rpc_pipefs /run/sendsigs.omit.d
mount -t rpc_pipefs sunrpc /run/rpc_pipefs
# NFSv3: whom to notify after a restart.
mount -t tmpfs -o mode=755 tmpfs /var/lib/nfs
mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak
rpcbind
rpc.statd --no-notify
for version in 3 4.2; do
  mkdir -p "/srv/nfs$version" "/srv/nfs$version-again"
  mount -t nfs -o "vers=$version,hard" 10.0.0.1:/srv/export "/srv/nfs$version"
  mount -t nfs -o "vers=$version,hard,nosharecache" 10.0.0.1:/srv/export "/srv/nfs$version-again"
done
echo ready
exec cat
