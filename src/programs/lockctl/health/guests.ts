/**
 * The running QEMUs, and the disks that they have open for writing. A disk is found by descriptor, so under whatever name. No file
 * system that may hang is asked: of such files /proc/PID/fdinfo has the inode, and the mount has the device.
 */
import { constants, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ByteString } from '../../../../xdr/codec.ts';
import { descriptorPath, type FileId, fileIdOf, openedBy } from '../../../proc/descriptors.ts';
import { descriptorInfo, type DescriptorInfo, isRecordLock } from '../../../proc/locks.ts';
import { isLocalType, mayKeepNoRecord, type Mount, mountsOf } from '../../../proc/mounts.ts';
import { isGone, processes, programOf, sharesMounts } from '../../../proc/processes.ts';

/** A file as /proc/locks has it. */
export interface KernelFile {
  readonly major: number;
  readonly minor: number;
  readonly inode: bigint;
}

export interface Disk {
  /** As the kernel names the open file. */
  readonly path: ByteString;
  /** As stat has it; null where stat may hang. */
  readonly file: FileId | null;
  /** Null before Linux 5.14. */
  readonly kernelFile: KernelFile | null;
  /** The device behind a block device's node. */
  readonly blockDevice: number | null;
}

/** A `<lease>` of a guest's definition. */
export interface Lease {
  /** The directory of its lockspace. */
  readonly lockspace: ByteString;
  readonly key: ByteString;
}

export interface Guest {
  readonly pid: number;
  /** Empty when libvirt did not start it. */
  readonly name: ByteString;
  /** As libvirt has it. Undefined when libvirt did not start it. */
  readonly state: string | undefined;
  /** The paths of its disks as libvirt has them, with links. */
  readonly sources: readonly ByteString[];
  readonly leases: readonly Lease[];
  /** Null when they cannot be read. */
  readonly disks: readonly Disk[] | null;
}

/** What libvirt's driver for QEMU records of a guest in its run directory. */
interface GuestStatus {
  readonly name: ByteString;
  readonly state: string;
  readonly sources: readonly ByteString[];
  readonly leases: readonly Lease[];
}

/**
 * Guests of the libvirt with one of these run directories, and QEMUs of this mount namespace that no libvirt has started. Those of
 * containers and of other users' sessions are another daemon's.
 */
export function findGuests(runDirectories: readonly string[]): Guest[] {
  const statuses = readStatuses(runDirectories);
  const guests: Guest[] = [];
  for (const pid of processes()) {
    const status = statuses.get(pid);
    if (!isQemu(pid)) continue;
    if (status === undefined && (isOfSession(pid) || sharesMounts(pid) !== true)) continue;
    const { name = '', state, sources = [], leases = [] } = status ?? {};
    guests.push({ pid, name, state, sources, leases, disks: disksOf(pid) });
  }
  return guests;
}

function isQemu(pid: number): boolean {
  try {
    return /^(?:qemu-system-|qemu-kvm$|kvm$)/.test(path.basename(programOf(pid)));
  } catch {
    return false;
  }
}

/** Whether a user's own libvirt has started it: that asks the user's lock daemon. */
function isOfSession(pid: number): boolean {
  try {
    const { uid } = statSync(`/proc/${pid}`);
    return uid !== process.geteuid?.() && readStatuses([`/run/user/${uid}/libvirt/qemu/run`]).has(pid);
  } catch {
    return false;
  }
}

function readStatuses(directories: readonly string[]): Map<number, GuestStatus> {
  const found = new Map<number, GuestStatus>();
  for (const directory of directories) {
    for (const file of xmlFilesOf(directory)) {
      try {
        const status = parseStatus(readFileSync(file, 'latin1'));
        if (status !== null) found.set(...status);
      } catch {
        // The guest has ended.
      }
    }
  }
  return found;
}

function xmlFilesOf(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith('.xml'))
      .map((name) => path.join(directory, name));
  } catch {
    return [];
  }
}

/** The pid and the rest; null when it is no guest's status. */
export function parseStatus(xml: ByteString): [pid: number, status: GuestStatus] | null {
  const head = /<domstatus ([^>]*)>/.exec(xml)?.[1] ?? '';
  const pid = /\bpid='(\d+)'/.exec(head)?.[1];
  const state = /\bstate='(\w+)'/.exec(head)?.[1];
  const name = /<domain\b[^>]*>\s*<name>([^<]*)<\/name>/.exec(xml)?.[1];
  if (pid === undefined || state === undefined || name === undefined) return null;
  const sources = Array.from(xml.matchAll(/<source (?:file|dev)='([^']*)'/g), ([, file = '']) => unescape(file));
  return [Number(pid), { name: unescape(name), state, sources, leases: leasesOf(xml) }];
}

function leasesOf(xml: ByteString): Lease[] {
  const found = xml.matchAll(
    /<lease>\s*<lockspace>([^<]+)<\/lockspace>\s*<key>([^<]+)<\/key>\s*<target path='([^']+)'/g,
  );
  return Array.from(found, ([, lockspace = '', key = '', target = '']) => ({
    lockspace: path.join(unescape(target), unescape(lockspace)),
    key: unescape(key),
  }));
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescape(text: ByteString): ByteString {
  return text.replaceAll(/&(\w+);/g, (all, name: string) => ENTITIES[name] ?? all);
}

function disksOf(pid: number): Disk[] | null {
  const disks = new Map<string, Disk>();
  try {
    const mounts = mountsOf(pid);
    for (const [fd, name] of openedBy(pid)) {
      const disk = name.startsWith('/') ? diskAt(pid, fd, name, mounts) : null;
      // One file may be open several times.
      if (disk !== null) disks.set(keyOf(disk), disk);
    }
  } catch (error) {
    return isGone(error) ? [] : null;
  }
  return [...disks.values()];
}

function keyOf({ path: name, file, kernelFile }: Disk): string {
  if (file !== null) return `${file.device} ${file.inode}`;
  return kernelFile === null ? name : `${kernelFile.major}:${kernelFile.minor} ${kernelFile.inode}`;
}

/** The bits of the flags of open(2) that say how a file may be used. */
const ACCESS_MODE = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR;

/** Null for what is no disk: read only, a log, a console, memory, the variables of the firmware. */
function diskAt(pid: number, fd: number, name: ByteString, mounts: ReadonlyMap<number, Mount>): Disk | null {
  const info = descriptorInfoOf(pid, fd);
  if (info === null || (info.flags & ACCESS_MODE) !== constants.O_RDWR || isFirmware(name)) return null;
  const mount = mounts.get(info.mount);
  if (mount === undefined) return null;
  const { major, minor, type } = mount;
  const kernelFile = info.inode === null ? null : { major, minor, inode: info.inode };
  const disk = { path: name, file: null, kernelFile, blockDevice: null };
  const isImage = hasImageLock(info);
  // libvirt locks neither sockets nor consoles. Where the kernel lists no locks, every file counts as an image.
  if (!isLocalType(type)) return isImage || mayKeepNoRecord(type) ? disk : null;
  const stat = statSync(descriptorPath(pid, fd), { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return null;
  const file = fileIdOf(stat);
  if (stat.isBlockDevice()) return { ...disk, file, blockDevice: Number(stat.rdev) };
  return stat.isFile() && isImage ? { ...disk, file } : null;
}

/** Null when it was closed since. */
function descriptorInfoOf(pid: number, fd: number): DescriptorInfo | null {
  try {
    return descriptorInfo(pid, fd);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** The bytes of an image that QEMU's own image locking locks: 100 and more for what it does, 200 and more for what others may not. */
const FIRST_IMAGE_BYTE = 100n;
const LAST_IMAGE_BYTE = 299n;

function hasImageLock({ locks }: DescriptorInfo): boolean {
  return locks.some((lock) => isRecordLock(lock) && lock.start >= FIRST_IMAGE_BYTE && lock.start <= LAST_IMAGE_BYTE);
}

/** libvirt has no lock taken on these. */
function isFirmware(name: ByteString): boolean {
  return name.includes('/nvram/') || /_VARS\.(?:fd|qcow2)$/.test(name);
}
