/**
 * Who has a lock on byte 0 of a file, as its file system says it: asked by path, from a mount of its own. By itself it is a program that
 * asks all the time, and writes each change as a line: see two-hosts.ts.
 */
import { closeSync, openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { LockType, posix } from '../../src/posix/posix.ts';
import { mountsOf } from '../../src/proc/processes.ts';

export interface Holder {
  /** Of all hosts, which are on one machine. */
  readonly pid: number;
  readonly access: 'READ' | 'WRITE';
}

/** Undefined while nobody has it, or there is no such file. Opens the file: the caller may have no POSIX lock on it. */
export function holderOf(path: string): Holder | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (error) {
    // Another host removes it, and may do so between this one's lookup and its open.
    if (['ENOENT', 'ESTALE'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  try {
    const out = new Int32Array(2);
    const status = posix.getlk(fd, LockType.WRITE, 0, 1, out);
    const [type, pid = -1] = out;
    if (status !== 0) throw new Error(`F_GETLK on ${path}: ${status}`);
    if (type === LockType.UNLOCK) return undefined;
    return { pid, access: type === LockType.READ ? 'READ' : 'WRITE' };
  } finally {
    closeSync(fd);
  }
}

/** The mount namespace of a process: hosts have one each. Undefined when there is no such process. */
export function namespaceOf(pid: number): string | undefined {
  try {
    return mountsOf(pid);
  } catch {
    return undefined;
  }
}

/** Who has had the lock: between these moments each answer was the same. CLOCK_REALTIME in ms. */
export interface Span {
  /** When the first answer came. */
  readonly from: number;
  /** When the last one was asked for. */
  readonly to: number;
  /** The namespace of the holder, or null. */
  readonly host: string | null;
}

export const now = (): number => performance.timeOrigin + performance.now();

const REST_MS = 0.5;

/** Writes spans as lines of JSON until standard input ends. */
async function watch(path: string): Promise<void> {
  process.stdin.resume();
  let span: { from: number; to: number; host: string | null } | undefined;
  const write = (): void => {
    if (span !== undefined) process.stdout.write(`${JSON.stringify(span)}\n`);
  };
  while (!process.stdin.readableEnded) {
    const asked = now();
    const holder = holderOf(path);
    const host = holder === undefined ? null : (namespaceOf(holder.pid) ?? null);
    if (span?.host === host) span.to = asked;
    else {
      write();
      if (span === undefined) process.stdout.write('\n');
      span = { from: now(), to: asked, host };
    }
    await pause(REST_MS);
  }
  write();
}

const [, program, path] = process.argv;
if (program === import.meta.filename && path !== undefined) await watch(path);
