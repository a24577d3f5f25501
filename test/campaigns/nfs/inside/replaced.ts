/** The daemon of host 1 is replaced by its successor, while a rival on host 2 asks for its locks. */
import { mkdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { ServiceManager } from '../../../../src/lab/manager.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { executeNext, PATIENCE } from './host.ts';
import { type Lock, pathOf } from './owner.ts';
import type { Stage } from './stage.ts';

const TIMES = 3;
const modes = ['look', 'take'] as const;

function locksOf(stage: Stage, name: string): Lock[] {
  return [stage.indirect(name), stage.image(`${name}.img`)];
}

/** Host 2's daemon is refused each, and `check` on host 1 finds nothing: once it does, for a lock may be confirmed late. */
async function stillHeld(stage: Stage, after: string, locks: readonly Lock[]): Promise<void> {
  const { report, hosts } = stage;
  for (const lock of locks) {
    const { output, code } = await hosts[1].lockctl(
      ...['why', ...(lock.lockspace === '' ? [] : ['--lockspace', lock.lockspace, '--autocreate']), lock.name],
    );
    report.check(
      `${after}: host 2 would be refused ${lock.lockspace === '' ? 'the image' : 'the lock file'}`,
      code === 1,
      output,
    );
  }
  const check = await hosts[0].lockctl('check');
  report.check(`${after}: check on host 1 finds nothing`, check.code === 0, check.output);
}

export async function restart(stage: Stage): Promise<void> {
  const daemon = await stage.daemon(1);
  await stage.daemon(2);
  const owner = await stage.owner(daemon, 'db');
  const locks = locksOf(stage, 'db');
  await owner.hold(...locks);
  for (const [where, file] of [
    ['a local file', '/run/local/probe'],
    ['NFS', stage.at('probe')],
  ] as const) {
    const { stdout } = await daemon.lab.run('/usr/bin/python3', [`${import.meta.dirname}/exec-probe.py`, file]);
    stage.report.say(`a POSIX lock on ${where}, after exec from a process with threads`, stdout);
  }
  for (const mode of modes) {
    await stage.besideRival('restarts', mode, locks.map(pathOf), async () => {
      for (let time = 0; time < TIMES; time++) await executeNext(daemon, 'own');
    });
    await stillHeld(stage, `after ${TIMES} restarts beside a rival that ${mode}s`, locks);
  }
  stage.report.check('the owner lives', owner.lives);
  stage.report.say('log on node1', daemon.log);
}

/** From C to this daemon and back, with locks that the one and the other has taken. */
export async function swap(stage: Stage): Promise<void> {
  const { report } = stage;
  const daemon = await stage.daemon(1, 'libvirt');
  await stage.daemon(2);
  const owner = await stage.owner(daemon, 'db');
  const ofC = locksOf(stage, 'c');
  const ofOurs = locksOf(stage, 'ours');
  await owner.hold(...ofC);
  for (const mode of modes) {
    await stage.besideRival('the swap from C', mode, ofC.map(pathOf), async () => executeNext(daemon, 'own'));
    await stillHeld(stage, `after the swap from C beside a rival that ${mode}s`, ofC);
    await owner.hold(...ofOurs);
    const all = [...ofC, ...ofOurs];
    await stage.besideRival('a restart after it', mode, all.map(pathOf), async () => executeNext(daemon, 'own'));
    await stillHeld(stage, `after a restart beside a rival that ${mode}s`, all);
    await stage.besideRival('the swap back to C', mode, all.map(pathOf), async () => executeNext(daemon, 'libvirt'));
    const { output } = await stage.hosts[1].lockctl('why', ofOurs[1]?.name ?? '');
    report.check(
      `after the swap back beside a rival that ${mode}s: host 2 would be refused`,
      output.includes('another host'),
      output,
    );
    for (const lock of ofOurs) {
      const error = await owner.release(lock);
      report.check(
        `C releases what it took over from this daemon, beside a rival that ${mode}s`,
        error === undefined,
        error?.message ?? '',
      );
    }
  }
  report.check('the owner lives', owner.lives);
  report.say('log on node1', daemon.log);
}

/** With a store all locks stay; without one they end with the daemon, as C's do. */
export async function death(stage: Stage): Promise<void> {
  const { report, hosts } = stage;
  const [one, two] = hosts;
  const directory = `/var/tmp/${stage.version}`;
  mkdirSync(directory, { recursive: true });
  const manager = new ServiceManager(directory, { program: '/checkout/bin/virtlockd', enter: one.enter });
  stage.atEnd(async () => manager.close());
  const { pid } = await manager.next('started', PATIENCE);
  await manager.next('ready', PATIENCE);
  const owner = await stage.owner({ lab: one, connect: async () => manager.connect() }, 'db');
  const locks = locksOf(stage, 'db');
  await owner.hold(...locks);
  await stage.besideRival('deaths with a store', 'take', locks.map(pathOf), async () => {
    let next = pid ?? 0;
    for (let time = 0; time < TIMES; time++) {
      process.kill(next, 'SIGKILL');
      await manager.next('ended', PATIENCE);
      next = (await manager.next('started', PATIENCE)).pid ?? 0;
      await manager.next('ready', PATIENCE);
    }
  });
  const check = await one.lockctl('--connect', manager.socket, 'check');
  report.say('check after deaths with a store', check.output);
  report.check('the owner lives', owner.lives);
  report.say('log of the daemons with a store', manager.log);
  await owner.end();
  await manager.close();

  const daemon = await stage.daemon(1);
  const loser = await stage.owner(daemon, 'db');
  const taker = await stage.owner(await stage.daemon(2), 'web');
  const lost = locksOf(stage, 'mortal');
  await loser.hold(...lost);
  const began = performance.now();
  daemon.process.kill('SIGKILL');
  for (const lock of lost) {
    await eventually(
      'host 2 gets the lock of the daemon that died without a store',
      async () => (await taker.acquire(lock)) === undefined || (await pause(100), false),
      PATIENCE,
    );
  }
  report.measure('from the death without a store until host 2 has the locks', performance.now() - began);
  report.say('why on host 2', (await two.lockctl('why', lost[1]?.name ?? '')).output);
}
