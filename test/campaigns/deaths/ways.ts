/** The ways to end the daemon or to disturb it. */
import { spawnSync } from 'node:child_process';
import { eventually } from '../../../src/lab/process.ts';
import type { Host } from './host.ts';

export const ways = [
  'kill',
  'segv',
  'abort',
  'heap',
  'stop',
  'term',
  'restart',
  'socket-restart',
  'refused-stop',
  'reexec',
  'reload',
  'upgrade',
] as const;
export type Way = (typeof ways)[number];

export const isWay = (word: string): word is Way => (ways as readonly string[]).includes(word);

const signals = { kill: 'SIGKILL', segv: 'SIGSEGV', abort: 'SIGABRT', stop: 'SIGSTOP', term: 'SIGTERM' } as const;

/** Ends the daemon, or begins to. False when no daemon runs. */
export async function end(host: Host, way: Way): Promise<boolean> {
  switch (way) {
    case 'kill':
    case 'segv':
    case 'abort':
    case 'term':
    // systemd's watchdog sends a stopped daemon SIGABRT, and then SIGKILL.
    case 'stop': {
      const pid = host.daemon();
      if (pid === undefined) return false;
      process.kill(pid, signals[way]);
      return true;
    }
    case 'heap': {
      const pid = host.daemon();
      if (pid === undefined) return false;
      // The kernel refuses the runtime's next page, so the runtime aborts.
      spawnSync('prlimit', ['--pid', String(pid), '--data=1048576']);
      return true;
    }
    case 'restart':
      await host.must('systemctl', 'restart', 'virtlockd.service');
      return true;
    case 'socket-restart':
      // systemd refuses this while it starts the daemon after a death, and keeps its sockets.
      await eventually('the sockets are restarted', async () => {
        return (await host.run('systemctl', 'restart', 'virtlockd.socket', 'virtlockd-admin.socket')).code === 0;
      });
      return true;
    case 'refused-stop':
      // Meant to fail: guests hold locks.
      await host.run('systemctl', 'stop', 'virtlockd.service');
      return true;
    case 'reexec':
      await host.must('systemctl', 'daemon-reexec');
      return true;
    case 'reload':
      await host.must('systemctl', 'daemon-reload');
      return true;
    case 'upgrade':
      host.startUpgrade();
      return true;
  }
}
