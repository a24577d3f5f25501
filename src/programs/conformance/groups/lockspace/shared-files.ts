/** Files that other processes lock too, such as the daemon of another host. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import { Actor } from '../../exchange/actor.ts';
import { autocreate, lock, shared } from '../../../../lab/wire.ts';

export const sharedFiles: readonly WrittenCheck[] = [
  writtenCheck(
    'lockspace',
    'a shared file that was made stays while another process reads it',
    'The last sharer removes a file that was made for it; a sharer on another host counts.',
    async (context) => {
      const path = join(context.directory(), 'made');
      const sharer = await context.connect();
      await sharer.must(lock.register({ pid: 5_000_000 }));
      await sharer.must(lock.acquire('', path, shared | autocreate));
      const other = Actor.start();
      context.after(async () => other.stop());
      await other.lock(path, false, 0, 1);
      await sharer.must(lock.release('', path));
      assert.ok(existsSync(path), 'the file is gone');
      await sharer.must(lock.acquire('', path, shared | autocreate));
      await other.unlock(path);
      await sharer.must(lock.release('', path));
      assert.ok(!existsSync(path), 'the file is still there');
    },
  ),
];
