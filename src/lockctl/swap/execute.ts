/** Makes the daemon execute what is at its path, and looks whether all is as it was. */
import { readFileSync } from 'node:fs';
import { pause } from '../context.ts';
import type { Daemon } from '../daemon.ts';
import { type Check, describeRunning, locksOf, type Running } from './checks.ts';
import { isCompiled } from './program.ts';

/** How long the new program may take to be executed and to answer, in milliseconds. */
const LIMIT_MS = 20_000;
const LOOK_MS = 10;

/** @throws Error when the process did not execute the program, or is gone */
export async function executeAgain(daemon: Daemon, running: Running, target: string): Promise<Check[]> {
  const { pid } = running;
  const before = locksOf(pid);
  const image = imageOf(pid);
  const hasRefused = running.kind === 'node' ? await watchRefusals(daemon) : (): boolean => false;
  process.kill(pid, 'SIGUSR1');
  const until = performance.now() + LIMIT_MS;
  for (;;) {
    const now = imageOf(pid);
    if (now === null) throw new Error(`process ${pid} is gone, and every lock with it`);
    if (now !== image) break;
    if (hasRefused()) throw new Error((await daemon.refusedRestart()) ?? 'the daemon refused');
    if (performance.now() > until)
      throw new Error(`process ${pid} has not executed the new program within ${LIMIT_MS / 1000} s`);
    await pause(LOOK_MS);
  }
  const now = await answering(daemon, until);
  const after = locksOf(pid);
  const lost = [...before].filter((row) => !after.has(row));
  const kind = isCompiled(target) ? 'c' : 'node';
  return [
    { ok: now.pid === pid, what: 'the same process goes on', detail: `pid ${now.pid}` },
    {
      ok: now.kind === kind,
      what: 'it is the program that was wanted',
      detail: `${now.kind}, ${now.version}`,
    },
    {
      ok: lost.length === 0,
      what: 'every lock is there',
      detail: lost.length === 0 ? `${after.size} of ${before.size}` : `released or lost: ${lost.join('; ')}`,
    },
  ];
}

/** Asks the daemon over and over, one call at a time, how often it has refused; the result tells whether it did once more. */
async function watchRefusals(daemon: Daemon): Promise<() => boolean> {
  const count = async (): Promise<number> => (await daemon.counters()).get('restartsRefused') ?? 0;
  const before = await count();
  let refused = false;
  let asking = false;
  return () => {
    if (!asking) {
      asking = true;
      count().then(
        (now) => {
          refused = now > before;
          asking = false;
        },
        // It is about to be another program, or is no more: then it asks no more either.
        () => undefined,
      );
    }
    return refused;
  };
}

/** The kernel puts another random address there at every exec. Null: there is no such process. */
function imageOf(pid: number): string | null {
  try {
    const image = readFileSync(`/proc/${pid}/auxv`, 'latin1');
    return image === '' ? null : image; // a zombie's is empty
  } catch {
    return null;
  }
}

async function answering(daemon: Daemon, until: number): Promise<Running> {
  for (;;) {
    try {
      daemon.close();
      return await describeRunning(daemon);
    } catch (error) {
      if (performance.now() > until) throw error;
      await pause(LOOK_MS);
    }
  }
}
