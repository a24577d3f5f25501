/** Plays the scenes of /checkout/plan.json that have not been played before this boot, and writes facts to standard output. */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { endings, type Plan, type Scene } from '../plan.ts';
import { attribute, hasReset } from './device.ts';
import { Host } from './host.ts';
import { Report, write } from './report.ts';
import { plays, RESET_MS } from './scenes.ts';

/** The number of scenes that were begun. */
const PROGRESS = '/progress';

/** The longest time for a scene, in ms: the next one begins then. */
const LIMIT = 420_000;

function note(begun: number): void {
  const fd = openSync(PROGRESS, 'w');
  writeSync(fd, String(begun));
  fsyncSync(fd);
  closeSync(fd);
}

async function play(scene: Scene, plan: Plan): Promise<void> {
  write({ is: 'begun', scene });
  const late = pause(LIMIT, undefined, { ref: false }).then(() => {
    throw new Error(`not within ${LIMIT / 1000} s`);
  });
  try {
    await Promise.race([plays[scene](plan, new Report(scene)), late]);
    if (endings[scene] !== 'nothing') {
      await pause(RESET_MS);
      throw new Error('the machine goes on');
    }
    write({ is: 'ended', scene });
  } catch (error) {
    // Stopped, it may not end.
    await Promise.race([Host.closeAll(), pause(30_000)]).catch(() => undefined);
    write({ is: 'ended', scene, error: error instanceof Error ? error.message : 'no error' });
  }
}

const plan = JSON.parse(readFileSync('/checkout/plan.json', 'utf8')) as Plan;
const begun = existsSync(PROGRESS) ? Number(readFileSync(PROGRESS, 'utf8')) : 0;
try {
  write({ is: 'booted', kernel: release(), device: attribute('identity') });
  const last = plan.scenes[begun - 1];
  if (last !== undefined && endings[last] === 'watchdog')
    new Report(last).check('the device says that it has reset the machine', hasReset(), attribute('bootstatus'));
  for (const [index, scene] of plan.scenes.entries()) {
    if (index < begun) continue;
    note(index + 1);
    await play(scene, plan);
  }
  write({ is: 'done' });
} catch (error) {
  console.error(error);
}
process.exit();
