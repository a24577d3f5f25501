/** --timeout: how long a daemon stays without clients. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import { lockOn } from '../../../../lab/observe.ts';
import { patient } from '../../../../lab/patience.ts';
import { autocreate, lock } from '../../../../lab/wire.ts';

/** The timeout is a second; the rest is for a busy machine. */
const WAIT_MS = 2500;

export const idleChecks: readonly WrittenCheck[] = [
  writtenCheck(
    'command-line',
    'a client keeps an idle daemon',
    'With --timeout it ends when the last client has left, not before.',
    async (context) => {
      const daemon = await context.start({ args: ['--timeout', '1'] });
      const client = await context.connect();
      await client.must(lock.register({ pid: 5_000_000 }));
      await pause(patient(WAIT_MS));
      assert.equal(daemon.finished, undefined, 'it ended');
      client.close();
      assert.equal((await daemon.exited).code, 0);
    },
  ),
  writtenCheck(
    'command-line',
    'a lock keeps an idle daemon',
    'With --timeout it does not end while an owner holds a lock, though no client is connected.',
    async (context) => {
      const daemon = await context.start({ args: ['--timeout', '1'] });
      const path = `${context.directory()}/held`;
      const client = await context.connect();
      await client.must(lock.register({ pid: 5_000_000 }));
      await client.must(lock.acquire('', path, autocreate));
      client.close();
      await pause(patient(WAIT_MS));
      assert.equal(daemon.finished, undefined, 'it ended');
      assert.equal(lockOn(daemon.pid, path), 'WRITE 0 0');
    },
    { known: 'C counts clients alone: it ends, and the lock is lost' },
  ),
];
