/** Makes the daemon execute what is at its path, and looks whether all is as it was. */
import path from 'node:path';
import { exchanged } from '../../../swap/exchange.ts';
import { watchRefusals } from '../../../swap/own-daemon.ts';
import { image } from '../../../swap/processes.ts';
import { atQuietMoment } from '../../../swap/quiet.ts';
import { pause } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { type Check, describeRunning, locksOf, type Running } from './checks.ts';
import { isCompiled } from './program.ts';

/** How long the new program may take to be executed and to answer, in milliseconds. */
const LIMIT_MS = 25_000;
const LOOK_MS = 10;

/**
 * @param force also while a client of a C daemon has called nothing
 * @throws Error when the process did not execute the program, or is gone
 */
export async function executeAgain(
  daemon: InquireClient,
  running: Running,
  target: string,
  force: boolean,
): Promise<Check[]> {
  const { pid } = running;
  const { socket, adminSocket, pidFile } = daemon.target;
  const before = locksOf(pid);
  if (running.kind === 'c') {
    const notes = path.dirname(pidFile);
    await atQuietMoment({ pid, socket, adminSocket, notes }, force, async () => signal(pid));
  } else await signal(pid, await watchRefusals(await daemon.adminClient()));
  const until = performance.now() + LIMIT_MS;
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

/** Makes the process execute its path again, and waits until it has. */
async function signal(pid: number, refusal?: () => string | undefined): Promise<void> {
  const before = image(pid);
  process.kill(pid, 'SIGUSR1');
  await exchanged(pid, before, LIMIT_MS, refusal);
}

async function answering(daemon: InquireClient, until: number): Promise<Running> {
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
