/**
 * Processes that libvirtd has forked and that have executed no program yet. It forks with many threads: when another thread held a
 * lock of a library at that moment, the fork waits for this lock for ever, and libvirtd for the fork. No lock daemon has a part
 * in that: seen was g_slice_alloc() of GLib 2.74, which Debian 12's libvirt 9.0.0 calls before the fork connects to the lock daemon.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { commandLineOf, mountsOf, processes, programOf, unlessGone } from '../proc/processes.ts';

/**
 * For the environment of a libvirtd: GLib before 2.76 allocates small objects by malloc then, whose locks a fork gets anew. That is the
 * most frequent of those locks, and not the only one.
 */
export const forkSafely = { G_SLICE: 'always-malloc' } as const;

/** futex(2) on x86-64, in /proc/PID/syscall. */
const FUTEX = '202';
const LOOK_MS = 1000;

/**
 * The fork's system call if it can never return: its only thread waits for another one to wake it, without a limit. A word of
 * memory that is shared between processes would be another matter, but libvirt has none.
 */
function endlessWaitOf(pid: number): string | undefined {
  if (readdirSync(`/proc/${pid}/task`).length !== 1) return undefined;
  const call = readFileSync(`/proc/${pid}/syscall`, 'latin1').trim();
  const [number, , , , limit] = call.split(' ');
  return number === FUTEX && limit === '0x0' ? call : undefined;
}

/** Whether both run one program for one purpose, as a process and its forks do until they execute another one. */
function isFork(pid: number, parent: number): boolean {
  if (pid === parent || commandLineOf(pid).join('\0') !== commandLineOf(parent).join('\0')) return false;
  // Last, because of a stranger neither may be known.
  return programOf(pid) === programOf(parent) && mountsOf(pid) === mountsOf(parent);
}

/**
 * The forks of a process that run its own program still, and wait for ever. One that becomes a QEMU is a child of the first process, not
 * of libvirtd: libvirtd forks twice for it.
 */
function stuckForksOf(parent: number): Map<number, string> {
  const found = new Map<number, string>();
  for (const pid of processes()) {
    const wait = unlessGone(() => (isFork(pid, parent) ? endlessWaitOf(pid) : undefined));
    if (wait !== undefined) found.set(pid, wait);
  }
  return found;
}

/** Kills the stuck forks of processes, until it is stopped. */
export class ForkWatch {
  /** When it has killed one: CLOCK_MONOTONIC in ns. */
  readonly killed: number[] = [];
  readonly #timer: NodeJS.Timeout;
  #before = new Map<number, string>();

  /** @param parents the pids of those that run now */
  constructor(parents: () => readonly number[]) {
    this.#timer = setInterval(() => {
      this.#look(parents());
    }, LOOK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(parents: readonly number[]): void {
    const stuck = new Map(parents.flatMap((parent) => [...(unlessGone(() => stuckForksOf(parent)) ?? [])]));
    for (const [pid, call] of stuck) {
      // In the same call a second ago.
      if (this.#before.get(pid) !== call) continue;
      unlessGone(() => process.kill(pid, 'SIGKILL'));
      this.killed.push(Number(process.hrtime.bigint()));
    }
    this.#before = stuck;
  }
}
