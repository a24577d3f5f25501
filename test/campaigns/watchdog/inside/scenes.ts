/** The scenes: see ../plan.ts. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually } from '../../../../src/lab/process.ts';
import { LEASE_SECONDS, type Plan, type Scene, WATCHDOG_SECONDS } from '../plan.ts';
import { attribute, DEVICE, isCounting } from './device.ts';
import { command, Host, type Owner, PATIENCE } from './host.ts';
import type { Report } from './report.ts';

/** Longer than an unfed device waits. */
const LONG_MS = 2 * WATCHDOG_SECONDS * 1000;
/** Longer than the machine may take to be reset, from the lease's last keepalive on. */
export const RESET_MS = 2 * LEASE_SECONDS * 1000;

/** A host with an owner that holds the lock of the scene's name. */
async function holding(plan: Plan, name: Scene, options?: Parameters<typeof Host.open>[1]): Promise<[Host, Owner]> {
  const host = await Host.open(plan, options);
  const owner = await host.owner();
  await eventually('the lock is granted', async () => (await owner.acquire(name), true), PATIENCE);
  return [host, owner];
}

async function life(plan: Plan, report: Report): Promise<void> {
  const host = await Host.open(plan);
  report.check('the device is an i6300ESB', attribute('identity').includes('i6300ESB'), attribute('identity'));
  await eventually('the guard has the device', () => attribute('timeout') === String(WATCHDOG_SECONDS), PATIENCE);
  await eventually('it stands still without a lock', () => !isCounting(), PATIENCE);
  const found = await host.findings();
  report.check('health does not miss it', !found.includes('etcd-no-watchdog'), found.join());
  const owner = await host.owner();
  await owner.acquire('life');
  report.check('it counts as soon as a lock is held', isCounting());
  await pause(LONG_MS);
  report.check('it is fed while a lock is held', isCounting() && owner.lives);
  await owner.release('life');
  await eventually('it stands still after the release', () => !isCounting(), PATIENCE);
  await owner.acquire('life');
  report.check('it counts again with the next lock', isCounting());
  owner.kill();
  await eventually('it stands still after the owner', () => !isCounting(), PATIENCE);
  await pause(LONG_MS);
  const { guard } = host;
  await host.close();
  await eventually('the guard has ended', () => host.guard !== guard, PATIENCE);
  report.check('it stands still after the daemon', !isCounting());
  // It is nobody's any more. Closing it again stops it again.
  writeFileSync(DEVICE, 'V');
  const kernel = await command('dmesg');
  report.check('it was closed in order', !kernel.includes('did not stop'), kernel.slice(-1000));
  report.say('log', host.log);
}

async function restart(plan: Plan, report: Report): Promise<void> {
  const [host, owner] = await holding(plan, 'restart');
  for (const [what, act] of [
    ['SIGUSR1', async () => host.restart()],
    ['kill -9 of the daemon', async () => host.die()],
    ['kill -9 of the guard', async () => host.replaceGuard('SIGKILL')],
    ['SIGSTOP of the guard', async () => host.replaceGuard('SIGSTOP')],
  ] as const) {
    for (let time = 0; time < 2; time++) await act();
    await pause(LONG_MS);
    report.check(`after ${what}, twice: it is fed`, isCounting() && owner.lives);
  }
  const error = await host.owner().then(async (other) => other.acquire('restart').then(() => undefined, String));
  report.check('the lock is held still', error?.includes('locked') === true, error);
  await owner.release('restart');
  owner.kill();
  await eventually('it stands still after the release', () => !isCounting(), PATIENCE);
  report.say('log', host.log);
  await host.close();
}

async function frozen(plan: Plan, report: Report): Promise<void> {
  const [host] = await holding(plan, 'frozen');
  const { pid, guard } = host;
  report.arm();
  process.kill(pid, 'SIGSTOP');
  process.kill(guard, 'SIGSTOP');
}

async function unkillable(plan: Plan, report: Report, name: Scene, enter?: readonly string[]): Promise<void> {
  const [host, owner] = await holding(plan, name, { fence: 'reboot', ...(enter === undefined ? {} : { enter }) });
  await command('fsfreeze', '--freeze', '/run/frozen');
  await owner.block();
  report.arm();
  await command('ip', 'link', 'set', 'eth0', 'down');
  await pause(RESET_MS);
  report.say('log', host.log);
}

async function unrebootable(plan: Plan, report: Report): Promise<void> {
  writeFileSync('/run/sysrq', '');
  await command('mount', '--bind', '/run/sysrq', '/proc/sysrq-trigger');
  await unkillable(plan, report, 'unrebootable', ['setpriv', '--bounding-set=-sys_boot', '--inh-caps=-sys_boot']);
}

async function hang(plan: Plan, report: Report): Promise<void> {
  await holding(plan, 'hang');
  // Otherwise the kernel leaves a twentieth of the time to others.
  writeFileSync('/proc/sys/kernel/sched_rt_runtime_us', '-1');
  report.arm();
  for (let number = 0; number < availableParallelism(); number++)
    spawn('taskset', ['-c', String(number), 'chrt', '-f', '99', 'sh', '-c', 'while :; do :; done'], {
      stdio: 'ignore',
    });
}

/** Each of those after which the machine is to be reset returns before that. */
export const plays: Readonly<Record<Scene, (plan: Plan, report: Report) => Promise<void>>> = {
  life,
  restart,
  frozen,
  unkillable: async (plan, report) => unkillable(plan, report, 'unkillable'),
  unrebootable,
  hang,
};
