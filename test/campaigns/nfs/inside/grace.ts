/** The NFS server stops and starts again, under locks of both hosts. */
import { setTimeout as pause } from 'node:timers/promises';
import { eventually } from '../../../../src/lab/process.ts';
import { executeNext, PATIENCE } from './host.ts';
import { type Lock, type Owner, pathOf } from './owner.ts';
import type { Stage } from './stage.ts';

/** How long the server is away, in ms. */
const AWAY_MS = 8000;
/** The longest time that a call for local storage may take. Emulation alone takes tens of milliseconds. */
const LOCAL_MS = 1000;

export async function grace(stage: Stage): Promise<void> {
  const { hosts, report } = stage;
  const daemons = [await stage.daemon(1), await stage.daemon(2)] as const;
  const owners = [await stage.owner(daemons[0], 'db'), await stage.owner(daemons[1], 'web')] as const;
  const bystander = await stage.owner(daemons[1], 'local');
  const held = [
    [stage.indirect('db'), stage.image('db.img')],
    [stage.indirect('web'), stage.image('web.img')],
  ] as const;
  await owners[0].hold(...held[0]);
  await owners[1].hold(...held[1]);

  await stage.stopServer();
  let answered = false;
  const asker = await stage.owner(daemons[1], 'asker');
  const latecomer = await stage.owner(daemons[1], 'late');
  const asked = asker.acquire(held[0][1]).then((refused) => {
    answered = true;
    return refused;
  });
  const slowest = await slowestLocal(bystander, AWAY_MS);
  report.measure('slowest call for local storage while the server is away', slowest);
  report.check('a call for local storage is answered while the server is away', slowest < LOCAL_MS, `${slowest} ms`);
  report.check('the call for the server waits', !answered);
  const status = await hosts[1].lockctl('status');
  report.say('status on host 2 while the server is away', status.output);
  report.check(
    'status says that the storage does not answer',
    status.output.includes('does not answer'),
    status.output,
  );

  const started = performance.now();
  await stage.startServer();
  // The kernel records the lock of a request that was put off in another way than others.
  const lateLock = stage.indirect('late');
  const late = latecomer.acquire(lateLock);
  // The calls that wait go along.
  for (const daemon of daemons) await executeNext(daemon, 'own');
  const during = await slowestLocal(bystander, AWAY_MS / 2);
  report.check('a call for local storage is answered in the grace period', during < LOCAL_MS, `${during} ms`);
  const refused = await Promise.race([asked, pause(PATIENCE).then(() => 'no answer' as const)]);
  report.measure('from the start of the server to the answer of the call that waited', performance.now() - started);
  report.check(
    'the call that waited is refused: host 1 has reclaimed its lock',
    typeof refused === 'object' && refused.code === 87,
    typeof refused === 'object' ? (refused.message ?? '') : (refused ?? 'granted'),
  );
  const refusal = await late;
  report.check('a lock that is asked for in the grace period is granted', refusal === undefined, refusal?.message);
  for (const [number, other, of] of [
    [1, owners[0], held[1]],
    [2, owners[1], held[0]],
  ] as const)
    for (const lock of of) await refusedTo(stage, number, other, lock);
  for (const host of hosts) {
    await eventually(`check on ${host.name}`, async () => (await host.lockctl('check')).code === 0, PATIENCE).catch(
      () => undefined,
    );
    const { code, output } = await host.lockctl('check');
    report.check(`check on ${host.name} finds nothing afterwards`, code === 0, output);
  }
  const released = await latecomer.release(lateLock);
  const taken = await owners[0].acquire(lateLock);
  report.check(
    'such a lock is free once it is released',
    released === undefined && taken === undefined,
    `${released?.message ?? 'released'}, ${taken?.message ?? 'granted'}`,
  );
  for (const { lab, log } of daemons) report.say(`log on ${lab.name}`, log);
  report.check(
    'no owner was ended',
    [...owners, bystander, asker].every(({ lives }) => lives),
  );
}

async function refusedTo({ report }: Stage, number: number, owner: Owner, lock: Lock): Promise<void> {
  const refused = await owner.acquire(lock);
  report.check(
    `after the grace period host ${number} is refused ${pathOf(lock).includes('/locks/') ? 'the lock file' : 'the image'} of the other`,
    refused?.code === 87,
    refused?.message ?? 'granted',
  );
}

/** Acquires and releases a local lock for so long. Returns the longest time of a call, in ms. */
async function slowestLocal(owner: Owner, ms: number): Promise<number> {
  const lock = { lockspace: '/run/local', name: 'disk' };
  const until = performance.now() + ms;
  let slowest = 0;
  while (performance.now() < until) {
    const began = performance.now();
    await owner.hold(lock);
    await owner.release(lock);
    slowest = Math.max(slowest, performance.now() - began);
    await pause(50);
  }
  return Math.round(slowest);
}
