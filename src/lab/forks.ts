/**
 * Children that libvirtd has forked and that have executed no program yet. It forks with many threads: when another thread held a
 * lock of a library at that moment, the child waits for this lock for ever, and libvirtd for the child. No lock daemon has a part
 * in that.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { processes, programOf, statusOf, unlessGone } from '../proc/processes.ts';

/** futex(2) on x86-64, in /proc/PID/syscall. */
const FUTEX = '202';
const LOOK_MS = 1000;

/**
 * The child's system call if it can never return: its only thread waits for another one to wake it, without a limit. A word of
 * memory that is shared between processes would be another matter, but libvirt has none.
 */
function endlessWaitOf(pid: number): string | undefined {
  if (readdirSync(`/proc/${pid}/task`).length !== 1) return undefined;
  const call = readFileSync(`/proc/${pid}/syscall`, 'latin1').trim();
  const [number, , , , limit] = call.split(' ');
  return number === FUTEX && limit === '0x0' ? call : undefined;
}

/** The children of a process that run its own program still, and wait for ever. */
function stuckForksOf(parent: number): Map<number, string> {
  const program = programOf(parent);
  const found = new Map<number, string>();
  for (const pid of processes()) {
    const wait = unlessGone(() => {
      if (pid === parent || statusOf(pid, 'PPid') !== String(parent) || programOf(pid) !== program) return undefined;
      return endlessWaitOf(pid);
    });
    if (wait !== undefined) found.set(pid, wait);
  }
  return found;
}

/** Kills the stuck children of processes, until it is stopped. */
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
