/** The needs of daemons, guests and tools: each function names what this machine lacks. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DaemonKind, Generation } from './generation.ts';
import { checkout, suites, treeOf } from './trees.ts';

export const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

export const onPath = (name: string): boolean =>
  ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((d) =>
    executable(join(d, name)),
  );

/** Why no lab of that generation can be opened, or undefined. */
export function missingLab(generation: Generation = '9.0.0'): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  for (const tool of ['unshare', 'nsenter', 'setpriv', 'chroot', 'mount']) {
    if (!onPath(tool)) return `${tool} is not installed (package util-linux)`;
  }
  if (!/\boverlay\b/.test(readFileSync('/proc/filesystems', 'latin1')) && !existsSync('/sys/module/overlay')) {
    return 'the kernel has no overlay file system';
  }
  const tree = treeOf(generation);
  const suite = suites[generation];
  if (suite !== undefined && !existsSync(join(tree, '.virtlockd-lab'))) {
    return `no libvirt ${generation}: ${tree} is not built (scripts/lab.sh ${suite})`;
  }
  return undefined;
}

/** Why that lock daemon cannot be run in a lab of its own generation (ours: 9.0.0), or undefined. */
export function missingDaemon(kind: DaemonKind): string | undefined {
  if (kind === 'ours') {
    const built = ['bin/virtlockd', 'dist/virtlockd.cjs'].every((file) => existsSync(join(checkout, file)));
    return built ? missingLab() : 'bin/virtlockd is not built (npm run build)';
  }
  if (!executable(join(treeOf(kind), 'usr/sbin/virtlockd'))) return `no C virtlockd ${kind} (package libvirt-daemon)`;
  return missingLab(kind);
}

/** Why no test can mount a file system of its own by FUSE, or undefined. */
export function missingFuse(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!existsSync('/dev/fuse')) return 'the kernel has no FUSE';
  return onPath('python3') ? undefined : 'python3 is not installed (package python3)';
}

/** Why no file system can be made, mounted and frozen, or undefined. */
export function missingFreeze(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!existsSync('/dev/loop-control')) return 'the kernel has no loop devices';
  for (const [name, from] of [
    ['mkfs.ext4', 'e2fsprogs'],
    ['fsfreeze', 'util-linux'],
  ] as const)
    if (!onPath(name)) return `${name} is not installed (package ${from})`;
  return undefined;
}

/** Why no GlusterFS can be served and mounted, or undefined. */
export function missingGluster(): string | undefined {
  if (!existsSync('/dev/fuse')) return 'the kernel has no FUSE';
  for (const name of ['glusterfsd', 'glusterfs'])
    if (!onPath(name)) return `${name} is not installed (packages glusterfs-server and glusterfs-client)`;
  return undefined;
}

/** For network namespaces with links between them. */
export function missingNetwork(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!onPath('ip')) return 'ip is not installed (package iproute2)';
  const link = ['--net', 'ip', 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'eth0'];
  return spawnSync('unshare', link).status === 0 ? undefined : 'the kernel makes no links between network namespaces';
}

/** Why the tests' C programs cannot be compiled, or undefined. */
export function missingCompiler(): string | undefined {
  const compiler = process.env.CC ?? 'cc';
  return executable(compiler) || onPath(compiler) ? undefined : `${compiler} is not installed (package gcc)`;
}

/** Why no system calls can be watched, or undefined. */
export function missingStrace(): string | undefined {
  return onPath('strace') ? undefined : 'strace is not installed (package strace)';
}

/** Why libvirtd and QEMU guests cannot be run in a lab of that generation, or undefined. */
export function missingGuests(generation: Generation = '9.0.0'): string | undefined {
  const programs = {
    'usr/sbin/libvirtd': 'libvirt-daemon',
    'usr/bin/virsh': 'libvirt-clients',
    'usr/bin/qemu-system-x86_64': 'qemu-system-x86',
  };
  for (const [path, name] of Object.entries(programs)) {
    if (!executable(join(treeOf(generation), path))) return `no /${path} for libvirt ${generation} (package ${name})`;
  }
  return missingLab(generation);
}
