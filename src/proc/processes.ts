/**
 * What the kernel tells of processes, as files below /proc/PID. Where nothing else is said these functions throw what reading
 * throws. That a file cannot be read (no descriptor, no permission) does not say that its process is gone.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';

export type Process = number | 'self';

/** Whether an error says that a process, or something of it, is there no more. */
export function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

/** What reading gives, or undefined when there is nothing any more to be read. */
export function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** All processes that are to be seen. */
export function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/**
 * Whether a process is there, be it one that has ended and was not waited for; undefined when it cannot be told. A directory of
 * its own is not enough: with hidepid=1 there is one of each process, and nothing in those of others can be seen.
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

/** The words of its command line; none of a kernel thread, and of a process that has ended. */
export function commandLineOf(pid: Process): ByteString[] {
  return stringsOf(pid, 'cmdline');
}

/** The entries, `NAME=value`, of the environment that it was executed with. */
export function environmentOf(pid: Process): ByteString[] {
  return stringsOf(pid, 'environ');
}

/** Where it is; a path that was deleted has words of the kernel's behind it. */
export function workingDirectoryOf(pid: Process): ByteString {
  return readlinkSync(`/proc/${pid}/cwd`, 'latin1');
}

/** Its name, as ps shows it. */
export function nameOf(pid: Process): ByteString {
  return textOf(pid, 'comm').replace(/\n$/, '');
}

/** The program that it runs, without what the kernel says about its having been replaced. */
export function programOf(pid: Process): ByteString {
  return readlinkSync(`/proc/${pid}/exe`, 'latin1').replace(/ \(deleted\)$/, '');
}

/** A line of its status. */
export function statusOf(pid: Process, field: string): string | undefined {
  return new RegExp(`^${field}:[ \t]*(.*)$`, 'm').exec(textOf(pid, 'status'))?.[1];
}

/** Its control groups, a line each. */
export function controlGroupsOf(pid: Process): string {
  return textOf(pid, 'cgroup');
}

/** Whether it has a handler for a signal. */
export function catchesSignal(pid: Process, signal: NodeJS.Signals): boolean {
  const caught = BigInt(`0x${statusOf(pid, 'SigCgt') ?? '0'}`);
  return ((caught >> BigInt(constants.signals[signal] - 1)) & 1n) !== 0n;
}

/** Whether the process that has this pid now is in our pid namespace, and not in one below it; undefined: it cannot be told. */
export function isLocalProcess(pid: number): boolean | undefined {
  try {
    // A process has one number in each namespace from the reader's down to its own.
    const numbers = statusOf(pid, 'NSpid');
    return numbers === undefined ? undefined : !/\s/.test(numbers.trim());
  } catch {
    return undefined;
  }
}

/**
 * Tells this image of a process from the next: the kernel gives every exec another random address here. Undefined when it has
 * ended.
 */
export function imageOf(pid: number): string | undefined {
  const image = unlessGone(() => textOf(pid, 'auxv'));
  // A zombie's is empty.
  return image === '' ? undefined : image;
}

export interface ProcessStat {
  /** A letter: Z is a process that has ended and was not waited for. */
  readonly state: string;
  /** When it was started, in clock ticks since boot: with the pid, its identity, which exec does not change. */
  readonly startTime: number;
}

export function parseStat(text: string): ProcessStat {
  // The name is in parentheses, and may hold any byte.
  const words = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: words[0] ?? '', startTime: Number(words[19]) };
}

/** The daemon, which has no time for this on the way of a registration, asks `startTimeOf` (start-time.ts). */
export function statOf(pid: Process): ProcessStat {
  return parseStat(textOf(pid, 'stat'));
}

/** How much memory it has, in bytes. */
export function residentMemoryOf(pid: Process): number {
  return parseInt(statusOf(pid, 'VmRSS') ?? '0', 10) * 1024;
}

/** The files that are mapped into it. */
export function mappedFilesOf(pid: Process): ByteString[] {
  return Array.from(textOf(pid, 'maps').matchAll(/ (\/.*)$/gm), ([, file = '']) => file);
}
