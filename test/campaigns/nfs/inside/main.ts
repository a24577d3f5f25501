/** Plays the scenes of /checkout/plan.json in the virtual machine, and writes facts to standard output. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { type SceneName, sceneParts } from '../plan.ts';
import { Host } from './host.ts';
import { Report, write } from './report.ts';
import { scenes } from './scenes.ts';
import { Stage } from './stage.ts';

/** The longest time for a scene, in ms: the next one begins then. */
const LIMIT = 420_000;

async function play(scene: SceneName, hosts: readonly [Host, Host]): Promise<void> {
  write({ is: 'begun', scene });
  const began = performance.now();
  const { subject, version } = sceneParts(scene);
  const stage = new Stage(hosts, version, scene, new Report(scene));
  const late = pause(LIMIT, undefined, { ref: false }).then(() => {
    throw new Error(`not within ${LIMIT / 1000} s`);
  });
  let error: unknown;
  try {
    await Promise.race([scenes[subject](stage), late]);
    await Promise.race([stage.end(), late]);
  } catch (caught) {
    error = caught;
    await Promise.race([stage.end(), pause(30_000)]).catch(() => undefined);
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  write({
    is: 'ended',
    scene,
    seconds,
    ...(error === undefined ? {} : { error: error instanceof Error ? error.message : 'no error' }),
  });
}

const { scenes: wanted } = JSON.parse(readFileSync('/checkout/plan.json', 'utf8')) as { scenes: SceneName[] };
try {
  const hosts = [await Host.open(1), await Host.open(2)] as const;
  for (const scene of wanted) await play(scene, hosts);
  write({ is: 'done', kernel: release() });
} catch (error) {
  console.error(error);
}
process.exit();
