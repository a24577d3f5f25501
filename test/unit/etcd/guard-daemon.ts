/**
 * Stands in for a daemon that can be stopped and killed: guards the processes that its argument names, and prints what it hears of the
 * guard. Reads lines: `arm KILL GONE`, in milliseconds from then.
 */
import { createInterface } from 'node:readline';
import { Guard, type GuardOptions, startGuard } from '../../../src/etcd/guard.ts';
import { posix } from '../../../src/posix/posix.ts';
import { poller } from '../support/poller.ts';

export interface GuardPlan {
  readonly options: GuardOptions;
  readonly pids: readonly number[];
  /** Milliseconds from now. */
  readonly killAfter: number;
  readonly goneAfter: number;
}

const { options, pids, killAfter, goneAfter } = JSON.parse(process.argv[2] ?? '') as GuardPlan;
// It would reboot this machine. In a pid namespace the kernel ends the namespace in place of that.
if (options.fence === 'reboot' && process.pid !== 1) throw new Error('reboots outside of a namespace');

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
const guard = new Guard(
  options,
  { poller, start: startGuard },
  {
    changed: () => undefined,
    closing: () => undefined,
    fired: (count) => {
      say(`fired ${count}`);
    },
    cleared: () => {
      say('cleared');
    },
    fencing: (count, status) => {
      say(`fencing ${count} ${status}`);
    },
    died: () => {
      say('died');
    },
  },
);
const arm = (kill: number, gone: number): void => {
  guard.arm(posix.boottime() + kill, posix.boottime() + gone);
};
arm(killAfter, goneAfter);
for (const pid of pids) {
  guard.add(pid, posix.pidfdOpen(pid), (status) => {
    say(`added ${pid} ${status}`);
    if (guard.isReady) say(`guarded by ${guard.properties?.pid ?? 0}`);
  });
}
createInterface(process.stdin).on('line', (line) => {
  const [, kill, gone] = line.split(' ').map(Number);
  arm(kill ?? 0, gone ?? 0);
  say('armed');
});
