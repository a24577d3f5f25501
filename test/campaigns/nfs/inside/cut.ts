/**
 * Host 1 loses its network for longer than its lease, while its guests go on. An NFSv4 server gives its locks to host 2 then; an NFSv3
 * server, which knows no leases, keeps them. Reports what the daemon of host 1 says before its network is back, and afterwards.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Daemon } from '../../../../src/lab/daemon.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { type Host, PATIENCE } from './host.ts';
import type { Owner } from './owner.ts';
import { LEASE_MS, type Stage } from './stage.ts';

/** How long the daemon of host 1 may take to say that it has lost a lock, once its network is back. */
const TO_NOTICE_MS = 60_000;
/** Of its confirmations of locks on network file systems, in seconds. */
const CONFIRMATIONS = 'lost_locks = "report"\n';

/** Host 2 keeps the lock that it gets, or releases it before host 1 is back: then the kernel of host 1 could take it again in silence. */
const fates = { '4.2': ['kept', 'released'], 3: ['kept'] } as const;
type Fate = 'kept' | 'released';

export async function cut(stage: Stage): Promise<void> {
  for (const fate of fates[stage.version]) await cutOff(stage, fate);
}

async function cutOff(stage: Stage, fate: Fate): Promise<void> {
  const { hosts, report, version } = stage;
  const [one, two] = hosts;
  const daemons = [await startConfirming(stage), await stage.daemon(2)] as const;
  const victim = await stage.owner(daemons[0], 'db');
  const local = await stage.owner(daemons[0], 'local');
  const taker = await stage.owner(daemons[1], 'web');
  const locks = [stage.indirect(`db-${fate}`), stage.image(`db-${fate}.img`)] as const;
  await victim.hold(...locks);
  const before = daemons[0].log.length;

  await one.setNetwork('down');
  stage.atEnd(async () => one.setNetwork('up'));
  const began = performance.now();
  const granted = await takeAll(taker, locks, began + 4 * LEASE_MS);
  const first = Math.min(...granted.map((at) => at - began));
  if (version === '3') {
    report.check(`NFSv3 gives host 2 no lock of a host that is cut off (${fate})`, granted.length === 0);
  } else {
    report.check(`host 2 has both locks in the end (${fate})`, granted.length === locks.length, `${granted.length}`);
    report.measure(`from the cut to the first lock of host 2 (${fate})`, first);
    // The lease was renewed at most its own length before the cut.
    report.check(`host 2 gets no lock before the lease may have ended (${fate})`, first > LEASE_MS / 4, `${first} ms`);
  }
  await reportOne(stage, daemons[0], local, `cut off (${fate})`, before);

  if (fate === 'released') for (const lock of locks) await taker.release(lock);
  await one.setNetwork('up');
  const back = performance.now();
  const said = (): string => daemons[0].log.slice(before);
  if (version !== '3') {
    const noticed = await eventually(
      'the daemon says that it has lost its locks',
      async () => /lost|gone|no longer/i.test(said()) && (await one.lockctl('check')).code === 1,
      TO_NOTICE_MS,
    ).catch(() => false);
    if (noticed) report.measure(`from the return to the daemon's saying so (${fate})`, performance.now() - back);
    report.check(`the daemon of host 1 says that its locks are lost (${fate})`, noticed, said());
  } else await pause(TO_NOTICE_MS / 4);
  await reportOne(stage, daemons[0], local, `back (${fate})`, before);
  report.say(`the owner on host 1 (${fate})`, victim.lives ? 'lives' : 'was ended');
  if (version === '3') {
    const refused = await taker.acquire(locks[0]);
    report.check(
      `host 2 is refused when host 1 is back (${fate})`,
      refused?.code === 87,
      refused?.message ?? 'granted',
    );
    const { code, output } = await one.lockctl('check');
    report.check(`check on host 1 finds nothing when it is back (${fate})`, code === 0, output);
  } else if (fate === 'kept') {
    const { code, output } = await two.lockctl('check');
    report.check('check on host 2 finds nothing', code === 0, output);
  }
  await stage.end();
}

/** A daemon that confirms its locks, if this release does. */
async function startConfirming(stage: Stage): Promise<Daemon<Host>> {
  return stage.daemon(1, 'own', CONFIRMATIONS);
}

/** Has the owner ask for each lock until it is granted, or until that time. Returns when it got each. */
async function takeAll(
  owner: Owner,
  locks: readonly Parameters<Owner['acquire']>[0][],
  until: number,
): Promise<number[]> {
  const granted: number[] = [];
  for (const lock of locks) {
    while (performance.now() < until) {
      if ((await owner.acquire(lock)) === undefined) {
        granted.push(performance.now());
        break;
      }
      await pause(250);
    }
  }
  return granted;
}

/** What the daemon of host 1, its tool and its kernel say. None may hang, nor a call for local storage. */
async function reportOne(
  { report, hosts: [one] }: Stage,
  daemon: Daemon<Host>,
  local: Owner,
  when: string,
  before: number,
): Promise<void> {
  const began = performance.now();
  const lock = { lockspace: '/run/local', name: 'disk' };
  await Promise.race([local.hold(lock).then(async () => local.release(lock)), pause(PATIENCE)]);
  const ms = Math.round(performance.now() - began);
  report.check(`host 1, ${when}: a call for local storage is answered`, ms < 2000, `${ms} ms`);
  report.say(`host 1, ${when}: log`, daemon.log.slice(before));
  for (const command of ['check', 'list', 'health']) {
    const { code, output } = await one.lockctl(command);
    report.say(`host 1, ${when}: ${command}, exit status ${code}`, output);
  }
  const { stdout } = await one.lockctl('metrics');
  report.say(
    `host 1, ${when}: metrics`,
    stdout
      .split('\n')
      .filter((line) => /^virtlockd_[a-z_]*(lost|verdict|mortal|hang)/.test(line))
      .join('\n'),
  );
}
