/**
 * Processes, from files below /proc/PID. Unless said otherwise, these functions throw the error of reading: a file that cannot be
 * read (no descriptor, no permission) does not mean that its process is gone.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { constants, uptime } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';

export type Process = number | 'self';

/** Whether an error means that a process, or a part of it, is gone. */
export function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

/** The result of `read`, or undefined when the process is gone. */
export function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** All processes that /proc shows. */
export function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/**
 * Whether a process exists, be it as a zombie; undefined when that cannot be found out. Its directory does not prove it: with
 * hidepid=1 each process has one, and those of other users cannot be searched.
 */
export function isThere(pid: number): boolean | undefined {
  try {
    return unlessGone(() => statSync(`/proc/${pid}/stat`)) !== undefined;
  } catch {
    return undefined;
  }
}

function textOf(pid: Process, file: string): ByteString {
  return readFileSync(`/proc/${pid}/${file}`, 'latin1');
}

function stringsOf(pid: Process, file: string): ByteString[] {
  return textOf(pid, file).split('\0').slice(0, -1);
}

/** The words of its command line; none for a kernel thread or a zombie. */
export function commandLineOf(pid: Process): ByteString[] {
  return stringsOf(pid, 'cmdline');
}

/** The entries, `NAME=value`, of the environment at its exec. */
export function environmentOf(pid: Process): ByteString[] {
  return stringsOf(pid, 'environ');
}

/** The kernel appends ` (deleted)` to a path that was deleted. */
export function workingDirectoryOf(pid: Process): ByteString {
  return readlinkSync(`/proc/${pid}/cwd`, 'latin1');
}

/** Whether it is in the mount namespace of this process; undefined when that cannot be found out. */
export function sharesMounts(pid: number): boolean | undefined {
  try {
    return mountsOf(pid) === mountsOf('self');
  } catch {
    return undefined;
  }
}

/** The name of its mount namespace. */
export function mountsOf(pid: Process): string {
  return readlinkSync(`/proc/${pid}/ns/mnt`);
}

/** The processes that its threads have started, be they zombies. */
export function childrenOf(pid: Process): number[] {
  // A thread may end meanwhile.
  const textsOf = (thread: string): string => unlessGone(() => textOf(pid, `task/${thread}/children`)) ?? '';
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => (textsOf(thread).match(/\d+/g) ?? []).map(Number));
}

/** Its name, as ps shows it. */
export function nameOf(pid: Process): ByteString {
  return textOf(pid, 'comm').replace(/\n$/, '');
}

/** The first 15 bytes of a storage helper's name (src/storage), which are all that the kernel keeps. */
const STORAGE_HELPER = 'virtlockd-stora';

/** Whether it is a storage helper of a lock daemon, by its name. */
export function isStorageHelper(pid: number): boolean {
  try {
    return pid > 0 && nameOf(pid) === STORAGE_HELPER;
  } catch {
    return false;
  }
}

/** The path of its program, also if that was replaced since. */
export function programOf(pid: Process): ByteString {
  return readlinkSync(`/proc/${pid}/exe`, 'latin1').replace(/ \(deleted\)$/, '');
}

/** A line of its status. */
export function statusOf(pid: Process, field: string): string | undefined {
  return new RegExp(`^${field}:[ \t]*(.*)$`, 'm').exec(textOf(pid, 'status'))?.[1];
}

/** Its user ids: real, effective, saved, and that of the file system. No process can choose another user's. */
export function usersOf(pid: Process): number[] {
  return (statusOf(pid, 'Uid') ?? '').split('\t').map(Number);
}

/** Its effective group id. */
export function groupOf(pid: Process): number {
  return Number(statusOf(pid, 'Gid')?.split('\t')[1]);
}

export function controlGroupsOf(pid: Process): string {
  return textOf(pid, 'cgroup');
}

/** Whether it has a handler for a signal. */
export function catchesSignal(pid: Process, signal: NodeJS.Signals): boolean {
  const caught = BigInt(`0x${statusOf(pid, 'SigCgt') ?? '0'}`);
  return ((caught >> BigInt(constants.signals[signal] - 1)) & 1n) !== 0n;
}

/** Differs between program images of a process, as every exec gets another random address here. Undefined when it has ended. */
export function imageOf(pid: number): string | undefined {
  const image = unlessGone(() => textOf(pid, 'auxv'));
  // A zombie's is empty.
  return image === '' ? undefined : image;
}

interface ProcessStat {
  /** A letter: Z is a zombie. */
  readonly state: string;
  /** In clock ticks since boot. With the pid it identifies the process, also over exec. */
  readonly startTime: number;
  /** What it has spent on a processor, all its threads together, in clock ticks. Its children's is not in it. */
  readonly processorTime: number;
}

export function parseStat(text: string): ProcessStat {
  // The name is in parentheses, and may hold any byte.
  const words = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: words[0] ?? '', startTime: Number(words[19]), processorTime: Number(words[11]) + Number(words[12]) };
}

/** The daemon, which has no time for this on the way of a registration, asks `startTimeOf` (identity.ts). */
export function statOf(pid: Process): ProcessStat {
  return parseStat(textOf(pid, 'stat'));
}

/** The kernel counts in these for user space, whatever its own clock. */
const TICK_MS = 10;

/** In milliseconds. */
export function processorTimeOf(pid: Process): number {
  return statOf(pid).processorTime * TICK_MS;
}

/**
 * In milliseconds since 1970, to the second.
 *
 * @param startTime in clock ticks since boot
 */
export function startOf(startTime: number): number {
  return Date.now() - uptime() * 1000 + startTime * TICK_MS;
}

/** In bytes. */
export function residentMemoryOf(pid: Process): number {
  return parseInt(statusOf(pid, 'VmRSS') ?? '0', 10) * 1024;
}

export function mappedFilesOf(pid: Process): ByteString[] {
  return Array.from(textOf(pid, 'maps').matchAll(/ (\/.*)$/gm), ([, file = '']) => file);
}
