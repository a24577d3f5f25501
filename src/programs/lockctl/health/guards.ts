/** What is locked, by whichever daemon, and which of that guards a disk. */
import { statSync } from 'node:fs';
import path from 'node:path';
import type { ByteString } from '../../../../xdr/codec.ts';
import type { LockInfo } from '../../../../xdr/programs/inquire.ts';
import { descriptorPath, type FileId, type OpenDescriptor, openedBy } from '../../../proc/descriptors.ts';
import { coversFirstByte, descriptorInfo, isRecordLock, splitDevice } from '../../../proc/locks.ts';
import { isLocalType, type Mount, mountsOf } from '../../../proc/mounts.ts';
import { namesOfDevice } from '../device-names.ts';
import { sha256 } from '../sha256.ts';
import type { Disk, Guest, KernelFile, Lease } from './guests.ts';

export interface Guard {
  readonly path: ByteString;
  /** Empty for the default lockspace, in which names are paths. */
  readonly lockspace: ByteString;
  readonly name: ByteString;
  readonly file: FileId | null;
  readonly kernelFile: KernelFile;
  /** Of the daemon, or of a storage helper that has the file in its place. Undefined where it cannot be seen. */
  readonly open: OpenDescriptor | undefined;
  /** Null where the daemon does not say. */
  readonly owners: readonly number[] | null;
}

export function guardOf(
  { path: file, lockspace, name, device, inode, holds }: LockInfo,
  open: OpenDescriptor | undefined,
): Guard {
  return {
    path: file,
    lockspace,
    name,
    file: { device, inode },
    kernelFile: { ...splitDevice(device), inode },
    open,
    owners: holds.map(({ owner }) => owner.pid),
  };
}

/** The files that a C daemon has locked, by its descriptors. @throws Error when they cannot be read */
export function guardsOfProcess(pid: number, pidFile: string): Guard[] {
  const guards: Guard[] = [];
  for (const [fd, file] of openedBy(pid)) {
    if (!file.startsWith('/') || file === pidFile) continue;
    const lock = descriptorInfo(pid, fd).locks.find((row) => isRecordLock(row) && coversFirstByte(row));
    if (lock === undefined) continue;
    const { major, minor, inode } = lock;
    const kernelFile = { major, minor, inode };
    guards.push({
      path: file,
      lockspace: path.dirname(file),
      name: path.basename(file),
      file: null,
      kernelFile,
      open: { pid, fd },
      owners: null,
    });
  }
  return guards;
}

export class Guards {
  private readonly byInode = new Map<bigint, Guard[]>();
  /** In lockspaces other than the default one. */
  private readonly byName = new Map<ByteString, Guard[]>();
  private readonly all: readonly Guard[];
  private byDevice: Map<number, Guard[]> | undefined;

  constructor(all: readonly Guard[]) {
    this.all = all;
    for (const guard of all) {
      add(this.byInode, guard.kernelFile.inode, guard);
      if (guard.lockspace !== '') add(this.byName, guard.name, guard);
    }
  }

  /** By inode, by block device, or as libvirt names a disk in an indirect lockspace. */
  of(disk: Disk): Guard[] {
    const inode = disk.file?.inode ?? disk.kernelFile?.inode;
    const byInode = inode === undefined ? [] : (this.byInode.get(inode) ?? []).filter((guard) => isOn(guard, disk));
    const byDevice = disk.blockDevice === null ? [] : (this.devices.get(disk.blockDevice) ?? []);
    const byName = this.byName.size === 0 ? [] : namesOf(disk).flatMap((name) => this.byName.get(name) ?? []);
    return [...new Set([...byInode, ...byDevice, ...byName])];
  }

  /** The locks in other lockspaces than the default one that this guest holds, or that are named after its disks. */
  indirectOf({ pid, sources }: Guest): Guard[] {
    if (this.byName.size === 0) return [];
    const held = [...this.byName.values()].flat().filter(({ owners }) => owners?.includes(pid) === true);
    const named = sources.flatMap((file) => this.byName.get(sha256(file)) ?? []);
    return [...new Set([...held, ...named.filter(({ owners }) => owners === null)])];
  }

  /** Whether anybody has locked it for this guest, as far as that can be seen. */
  holdsLease({ pid }: Guest, { lockspace, key }: Lease): boolean {
    return (this.byName.get(key) ?? []).some(
      // Of a C daemon's locks the directory is seen as the kernel names it, without links.
      ({ lockspace: directory, owners }) =>
        isFor(pid, owners) && (owners === null || path.normalize(directory) === lockspace),
    );
  }

  /** Block devices by their numbers: a guest may have a node of its own. */
  private get devices(): Map<number, Guard[]> {
    if (this.byDevice !== undefined) return this.byDevice;
    const found = new Map<number, Guard[]>();
    /** By the processes that have the files. */
    const mounts = new Map<number, ReadonlyMap<number, Mount>>();
    for (const guard of this.all) {
      const device = blockDeviceOf(guard, mounts);
      if (device !== null) add(found, device, guard);
    }
    return (this.byDevice = found);
  }
}

/** Xen's owners have pid 0, and nobody knows a C daemon's. */
export function isFor(pid: number, owners: Guard['owners']): boolean {
  return owners === null || owners.includes(pid) || owners.includes(0);
}

function blockDeviceOf({ path: file, open }: Guard, mounts: Map<number, ReadonlyMap<number, Mount>>): number | null {
  if (open === undefined || !file.startsWith('/dev/')) return null;
  const { pid, fd } = open;
  try {
    const those = mounts.get(pid) ?? mountsOf(pid);
    mounts.set(pid, those);
    if (!isLocalType(those.get(descriptorInfo(pid, fd).mount)?.type)) return null;
    const stat = statSync(descriptorPath(pid, fd));
    return stat.isBlockDevice() ? stat.rdev : null;
  } catch {
    return null;
  }
}

/** As libvirt may name the disk in an indirect lockspace. */
function namesOf({ path: file, blockDevice }: Disk): string[] {
  return [sha256(file), ...(blockDevice === null ? [] : namesOfDevice(blockDevice).names)];
}

function isOn(guard: Guard, { file, kernelFile }: Disk): boolean {
  if (guard.file !== null && file !== null) return guard.file.inode === file.inode && guard.file.device === file.device;
  const { major, minor, inode } = guard.kernelFile;
  return kernelFile !== null && kernelFile.inode === inode && kernelFile.major === major && kernelFile.minor === minor;
}

function add<K>(map: Map<K, Guard[]>, key: K, guard: Guard): void {
  const present = map.get(key);
  if (present === undefined) map.set(key, [guard]);
  else present.push(guard);
}
