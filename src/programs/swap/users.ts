/** Runs this program again for each of several users, with no more rights than that user has. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { User } from '../../swap/daemons.ts';

/** A user may have many user ids, and each may have a process that only seems to be a lock daemon. */
const MAX_USERS = 32;

/**
 * Starts a run for each user. A run may hang, as the user's processes may make whoever reads of them do, and so may its end: it has nothing of
 * this process, and nobody waits for it.
 * @param words this program's script and its arguments
 */
export function asUser(users: readonly User[], words: readonly string[]): ChildProcess[] {
  return users.slice(0, MAX_USERS).map(({ uid, gid }) => {
    const run = spawn(process.execPath, words, {
      uid,
      gid,
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      stdio: 'ignore',
      detached: true,
    });
    // A user may have as many processes as are allowed already.
    run.on('error', () => undefined);
    run.unref();
    return run;
  });
}

/** Waits until all runs have ended, but no longer than some milliseconds. */
export async function untilEnded(runs: readonly ChildProcess[], limit: number): Promise<void> {
  const running = runs.filter(({ pid, exitCode, signalCode }) => pid !== undefined && exitCode === null && !signalCode);
  if (running.length === 0) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, limit);
    let left = running.length;
    for (const run of running) {
      run.once('exit', () => {
        left--;
        if (left > 0) return;
        clearTimeout(timer);
        resolve();
      });
    }
  });
}
