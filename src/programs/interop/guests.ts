/** A cell of the libvirtd columns: the guest checks, with a lock daemon of any kind. */
import { setTimeout as pause } from 'node:timers/promises';
import type { DaemonKind, Generation } from '../../lab/generation.ts';
import { missingDaemon, missingGuests } from '../../lab/requirements.ts';
import { failure } from './failure.ts';
import { guestChecks } from './guest-checks.ts';
import type { Check } from './model.ts';
import { Scene } from './scene.ts';

/** The longest time for a check, in ms. */
const patience = 60_000;

/** A check hangs, and its scene cannot be used any more. */
class Hung extends Error {}

async function bounded(task: Promise<void>, signal: AbortSignal): Promise<void> {
  const calm = new AbortController();
  const late = pause(patience, undefined, { signal: AbortSignal.any([calm.signal, signal]) }).then(
    () => {
      throw new Hung(`not done within ${patience / 1000} s`);
    },
    () => signal.throwIfAborted(),
  );
  try {
    await Promise.race([task, late]);
  } finally {
    calm.abort();
    await late.catch(() => undefined);
  }
}

/** @param signal ends it. @throws Error when the scene cannot be opened */
export async function guestCell(
  kind: DaemonKind,
  generation: Generation,
  progress: (step: string) => void,
  signal: AbortSignal,
): Promise<Check[]> {
  const missing = missingDaemon(kind) ?? missingGuests(generation);
  if (missing !== undefined) throw new Error(missing);
  const done: Check[] = [];
  let scene = await Scene.open(kind, generation);
  try {
    let lockspace = false;
    for (const { name, promise, indirect, run } of guestChecks) {
      progress(name);
      const whole = async (): Promise<void> => {
        if (lockspace !== indirect) await scene.useLockspace(indirect);
        lockspace = indirect;
        try {
          await run(scene);
          done.push({ name, promise, verdict: 'pass' });
        } catch (error) {
          done.push({ name, promise, ...failure(error) });
        }
        await scene.tidy();
      };
      try {
        await bounded(whole(), signal);
      } catch (error) {
        if (!(error instanceof Hung)) throw error;
        if (done.at(-1)?.name !== name) done.push({ name, promise, ...failure(error) });
        await scene.close();
        scene = await Scene.open(kind, generation);
        lockspace = false;
      }
    }
  } finally {
    await scene.close();
  }
  return done;
}
