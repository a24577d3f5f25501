/** The ways to end the daemon or to disturb it. */
import { spawnSync } from 'node:child_process';
import { eventually } from '../../../src/lab/process.ts';
import type { Host } from './host.ts';

export const ways = [
  'kill',
  'placed',
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
  'needrestart',
  'upgrade',
] as const;
export type Way = (typeof ways)[number];

/** Ways in which the daemon's process ends at any instruction, so that calls end unanswered. */
export const SUDDEN: readonly Way[] = ['kill', 'placed', 'segv', 'abort', 'heap', 'stop'];

export const isWay = (word: string): word is Way => (ways as readonly string[]).includes(word);

/** What needrestart runs for this daemon. */
const NEEDRESTART = '/etc/needrestart/restart.d/virtlockd.service';

const signals = { kill: 'SIGKILL', segv: 'SIGSEGV', abort: 'SIGABRT', term: 'SIGTERM' } as const;

/** An end takes milliseconds, or seconds on a busy machine; the watchdog's, its interval and a second. */
const END_MS = 15_000;
/** Until the runtime needs another page, which the rivals' calls do not make it need at once. */
const HEAP_MS = 60_000;

/** Ends the daemon, or does what must not end it. False when no daemon runs. */
export async function end(host: Host, way: Exclude<Way, 'placed'>): Promise<boolean> {
  switch (way) {
    case 'kill':
    case 'segv':
    case 'abort':
    case 'heap':
    case 'term': {
      const pid = host.daemon();
      if (pid === undefined) return false;
      // The kernel refuses the runtime's next page, so the runtime aborts.
      if (way === 'heap') spawnSync('prlimit', ['--pid', String(pid), '--data=1048576']);
      else process.kill(pid, signals[way]);
      await eventually('the daemon has ended', () => host.daemon() !== pid, way === 'heap' ? HEAP_MS : END_MS);
      return true;
    }
    case 'stop':
      return stop(host);
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
    case 'needrestart':
      // systemd reloads no daemon that it is just starting.
      await eventually('the daemon is reloaded', async () => (await host.run(NEEDRESTART)).code === 0);
      return true;
    case 'upgrade':
      host.startUpgrade();
      return true;
  }
}

/**
 * Has systemd's watchdog end the daemon: it sends a stopped one SIGABRT, and then SIGKILL. The daemon switches the watchdog off for as long
 * as it has not stored all descriptors. False when that has come just before.
 */
async function stop(host: Host): Promise<boolean> {
  // systemd watches no daemon that it is just starting.
  const isWatched = async (): Promise<boolean> => {
    const { WatchdogUSec, SubState } = await host.machine.service();
    return WatchdogUSec !== '0' && SubState === 'running';
  };
  await eventually('the watchdog is on', isWatched, END_MS);
  const pid = host.daemon();
  if (pid === undefined) return false;
  process.kill(pid, 'SIGSTOP');
  try {
    await eventually('the watchdog has ended the daemon', () => host.daemon() !== pid, END_MS);
    return true;
  } catch (error) {
    const wasWatched = await isWatched();
    process.kill(pid, 'SIGCONT');
    if (wasWatched) throw error;
    return false;
  }
}
