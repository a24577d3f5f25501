/** The time without clients after which a daemon ends. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { slug, type WrittenCheck } from '../../check.ts';
import type { CheckContext } from '../../check-context.ts';
import { lockOn } from '../../../../lab/observe.ts';
import { autocreate, lock } from '../../../../lab/wire.ts';

/** Longer than the timeout of a second, by as much as a busy machine needs. */
const WAIT_MS = 2500;

const idleCheck = (
  title: string,
  promise: string,
  run: (context: CheckContext) => Promise<void>,
  known?: string,
): WrittenCheck => ({
  name: `command-line/${slug(title)}`,
  group: 'command-line',
  promise,
  run,
  ...(known === undefined ? {} : { known }),
});

export const idleChecks: readonly WrittenCheck[] = [
  idleCheck(
    'a client keeps an idle daemon',
    'With --timeout it ends when the last client has left, not before.',
    async (context) => {
      const daemon = await context.start({ args: ['--timeout', '1'] });
      const client = await context.connect();
      await client.must(lock.register({ pid: 5_000_000 }));
      await pause(WAIT_MS);
      assert.equal(daemon.finished, undefined, 'it ended');
      client.close();
      assert.equal((await daemon.exited).code, 0);
    },
  ),
  idleCheck(
    'a lock keeps an idle daemon',
    'With --timeout it does not end while somebody holds a lock, though nobody is connected.',
    async (context) => {
      const daemon = await context.start({ args: ['--timeout', '1'] });
      const path = `${context.directory()}/held`;
      const client = await context.connect();
      await client.must(lock.register({ pid: 5_000_000 }));
      await client.must(lock.acquire('', path, autocreate));
      client.close();
      await pause(WAIT_MS);
      assert.equal(daemon.finished, undefined, 'it ended');
      assert.equal(lockOn(daemon.pid, path), 'WRITE 0 0');
    },
    'C counts clients alone: it ends, and the lock is lost',
  ),
];
