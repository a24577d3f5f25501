import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Resource } from '../../../src/lockspace/lockspaces.ts';
import { type Hold, unknownOwner } from '../../../src/lockspace/owner.ts';
import { holdsOfTaken } from '../../../src/lockspace/taken.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';

describe('the holds of locks that another process has', () => {
  const foreign = { ...unknownOwner(301), isForeign: true };
  for (const [title, owners, text] of [
    ['one of Xen, which is nobody', [unknownOwner(0)], 'go on, for their pids name no process here'],
    ['one of another pid namespace', [foreign], 'go on, for their pids name no process here'],
    ['some of them', [foreign, unknownOwner(300)], 'are ended, but for those whose pids name no process here'],
  ] as const) {
    it(`are logged as those of owners who are not ended: ${title}`, () => {
      const { path: directory, remove } = temporaryDirectory();
      const recorder = new LogRecorder(join(directory, 'log'));
      const holds = owners.map((owner): Hold => ({ owner, since: 0, client: 1 }));
      try {
        holdsOfTaken([{ name: 'disk', holds } as unknown as Resource], 400);
        assert.deepEqual(recorder.lines, [
          `error: The lock of resource 'disk' was lost, and process 400 has it: its owners ${text}`,
        ]);
      } finally {
        recorder.stop();
        remove();
      }
    });
  }

  it('are all those that no end has begun of, be they very many', () => {
    const { path: directory, remove } = temporaryDirectory();
    const recorder = new LogRecorder(join(directory, 'log'));
    const owner = unknownOwner(300);
    const live = Array.from({ length: 300_000 }, (): Hold => ({ owner, since: 0, client: 1 }));
    const end = { id: 1, isAwaited: true, isGone: false, wait: () => () => undefined };
    const resource = { name: 'shared', holds: [...live, { owner, since: 0, client: 1, end }] } as unknown as Resource;
    try {
      assert.equal(holdsOfTaken([resource], 400).length, live.length);
      assert.deepEqual(recorder.lines, [
        "error: The lock of resource 'shared' was lost, and process 400 has it: its owners are ended",
      ]);
    } finally {
      recorder.stop();
      remove();
    }
  });
});
