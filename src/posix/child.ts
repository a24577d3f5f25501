/**
 * Child processes that may hang: on storage that does not answer, in the kernel, by a defect. A child gets a time limit and SIGKILL, and
 * nobody waits for the end of one that was killed: see spawn.c for its start.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { bytesOf } from './bytes.ts';
import { now } from './clock.ts';
import { errnoName } from './errno-name.ts';
import { posix, strerror } from './posix.ts';
import { signalName } from './signal-name.ts';

const { EAGAIN } = constants.errno;

/** Of {@link Program.streams}. */
export const Stream = { NULL: -1, NONE: -2 } as const;

/** Output beyond this length is not read, unless the caller says otherwise. */
const MAX_OUTPUT = 64 * 1024;
/** What {@link Addon.reap} adds to the number of a signal. */
const SIGNALLED = 256;
/** When no file could be executed. */
export const EXEC_STATUS = 127;
/** In the place of output, when no file could be executed: see posix.ts. */
const EXEC_FAILED = /^\0(\d+)$/;
/** So many children that were killed may be left, in the kernel, before no more are started. */
const MAX_LEFT = 16;

export interface Program {
  /** A path, or a name to be found by `PATH`. */
  readonly file: ByteString;
  readonly args: readonly ByteString[];
  /** What it is called in its arguments: by default `file`. */
  readonly name?: ByteString;
  /** By default this process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** By default the daemon's own, which may have been deleted. */
  readonly directory?: ByteString;
  /** Milliseconds. */
  readonly limit: number;
  /** The limit is for doing nothing, not for all. Of {@link runChild} only. */
  readonly atWork?: AtWork;
  /** The descriptor of its output: 1 by default. With 3 it has our standard streams, otherwise none. */
  readonly outputAt?: 1 | 3;
  /** Also the output of its standard error. */
  readonly withErrors?: true;
  /** The most bytes of output that are read. */
  readonly outputMax?: number;
}

/** Tells a child that hangs from one that is slow: on a busy machine, or under emulation. */
export interface AtWork {
  /** The time for all, in milliseconds. */
  readonly longest: number;
  /** The processor time that a process has used, in milliseconds. Never throws: 0 when it cannot be found out. */
  processorTimeOf(pid: number): number;
}

/** How often in its time limit it is looked whether a child is at work. */
const LOOKS = 10;
/** What of its time limit a child at work spends on a processor. A timer in a program that hangs takes less. */
const WORK_SHARE = 0.01;

export interface Outcome {
  /** Null when it was ended by a signal, or is left running. */
  readonly status: number | null;
  readonly output: ByteString;
  /** How it ended, in words. */
  readonly end: string;
}

/** The program cannot be executed. */
export class SpawnError extends Error {}

/** Children that have not ended yet, by pid, with what follows their end. */
const running = new Map<number, (status: number) => void>();
/** Those of them that were killed. */
const left = new Set<number>();
let isListening = false;

function reapAll(): void {
  for (const [pid, onEnd] of [...running]) {
    const status = posix.reap(pid);
    if (status === -EAGAIN) continue;
    running.delete(pid);
    left.delete(pid);
    onEnd(status);
  }
}

/**
 * @param streams see {@link Addon.spawn}
 * @param onEnd gets the status as {@link Addon.reap} returns it
 * @returns the pid, or -errno
 */
export function startChild(
  { file, args, name = file, environment = process.env, directory = '' }: Omit<Program, 'limit'>,
  streams: readonly number[],
  onEnd: (status: number) => void,
): number {
  if (left.size >= MAX_LEFT) return -EAGAIN;
  if (!isListening) process.on('SIGCHLD', reapAll);
  isListening = true;
  const path = (environment.PATH ?? '/usr/bin:/bin').split(':');
  const files = file.includes('/') ? [file] : path.map((parent) => `${bytesOf(parent)}/${file}`);
  const variables = Object.entries(environment).map(([name, value = '']) => bytesOf(`${name}=${value}`));
  const pid = posix.spawn(files, [name, ...args], variables, directory, Int32Array.from(streams));
  if (pid > 0) running.set(pid, onEnd);
  return pid;
}

/** Has a child of the previous program reaped when it ends, or now. */
export function reapChild(pid: number): void {
  if (!isListening) process.on('SIGCHLD', reapAll);
  isListening = true;
  if (!running.has(pid)) running.set(pid, () => undefined);
  reapAll();
}

/** Kills a child, and does not wait for its end. */
function leaveChild(pid: number): void {
  if (!running.has(pid)) return;
  running.set(pid, () => undefined);
  left.add(pid);
  process.kill(pid, 'SIGKILL');
}

/**
 * Runs a program to its end, or to its time limit.
 *
 * @throws SpawnError
 */
export async function runChild(program: Program): Promise<Outcome> {
  const { outputAt = 1, withErrors, outputMax = MAX_OUTPUT } = program;
  const buffer = posix.createBuffer();
  if (buffer < 0) throw new SpawnError(`without a descriptor for its output: ${strerror(buffer)}`);
  const streams = outputAt === 3 ? [0, 1, 2, buffer] : [-1, buffer, withErrors === true ? buffer : -1, Stream.NONE];
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      // An error rejects, and so does not end the caller, which has other children.
      const settle = (outcome: () => Outcome): void => {
        resolve(Promise.resolve().then(outcome));
      };
      const pid = startChild(program, streams, (status) => {
        stopLimit();
        settle(() => outcomeOf(status, readBuffer(buffer, outputMax)));
      });
      if (pid < 0) {
        reject(new SpawnError(errorText(-pid)));
        return;
      }
      const stopLimit = limitTime(pid, program, (end) => {
        leaveChild(pid);
        settle(() => ({ status: null, output: readBuffer(buffer, outputMax), end }));
      });
    });
  } finally {
    closeSync(buffer);
  }
}

/**
 * Calls `onEnd` with the reason, once, when a child's time is over.
 * @returns a function that prevents it
 */
function limitTime(pid: number, { limit, atWork }: Program, onEnd: (end: string) => void): () => void {
  if (atWork === undefined) {
    const timer = setTimeout(() => {
      onEnd(tookLonger(limit));
    }, limit);
    return () => {
      clearTimeout(timer);
    };
  }
  const { longest } = atWork;
  const until = now() + longest;
  // Looks are counted, not their time: while this process gets no processor, neither may the child.
  let idle = 0;
  let used = 0;
  const timer = setInterval(() => {
    const time = atWork.processorTimeOf(pid);
    if (time - used >= limit * WORK_SHARE) {
      used = time;
      idle = 0;
    } else idle++;
    const end = idle >= LOOKS ? `did nothing for ${limit / 1000} s` : now() >= until ? tookLonger(longest) : undefined;
    if (end === undefined) return;
    clearInterval(timer);
    onEnd(end);
  }, limit / LOOKS);
  return () => {
    clearInterval(timer);
  };
}

/** The output of a program; undefined when it cannot be run, fails or takes longer than `limit` milliseconds. */
export async function outputOf(file: string, args: readonly string[], limit: number): Promise<string | undefined> {
  try {
    const { status, output } = await runChild({ file, args, directory: '/', limit });
    return status === 0 ? output : undefined;
  } catch (error) {
    if (!(error instanceof SpawnError)) throw error;
    return undefined;
  }
}

/** As {@link runChild}, while nobody is served. */
export function runChildAtOnce(program: Program): Outcome {
  const { limit, withErrors, outputMax = MAX_OUTPUT } = program;
  const buffer = posix.createBuffer();
  if (buffer < 0) throw new SpawnError(`without a descriptor for its output: ${strerror(buffer)}`);
  try {
    const pid = startChild(program, [-1, buffer, withErrors === true ? buffer : -1, Stream.NONE], () => undefined);
    if (pid < 0) throw new SpawnError(errorText(-pid));
    for (const until = now() + limit; now() < until;) {
      const status = posix.reap(pid);
      if (status === -EAGAIN) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        continue;
      }
      running.delete(pid);
      return outcomeOf(status, readBuffer(buffer, outputMax));
    }
    leaveChild(pid);
    return { status: null, output: readBuffer(buffer, outputMax), end: tookLonger(limit) };
  } finally {
    closeSync(buffer);
  }
}

/** @throws SpawnError */
function outcomeOf(status: number, output: ByteString): Outcome {
  const errno = status === EXEC_STATUS ? EXEC_FAILED.exec(output)?.[1] : undefined;
  if (errno !== undefined) throw new SpawnError(errorText(Number(errno)));
  if (status < SIGNALLED) return { status, output, end: `exited with ${status}` };
  return { status: null, output, end: `was ended by ${signalName(status - SIGNALLED)}` };
}

function tookLonger(limit: number): string {
  return `took longer than ${limit / 1000} s`;
}

/** @throws SpawnError */
function readBuffer(fd: number, most: number): ByteString {
  try {
    const bytes = Buffer.allocUnsafe(Math.min(most, fstatSync(fd).size));
    return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
  } catch (error) {
    throw new SpawnError(`its output cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function errorText(errno: number): string {
  const name = errnoName(errno);
  return `${name === undefined ? '' : `${name}: `}${strerror(errno)}`;
}
