import assert from 'node:assert/strict';
import { entry, EntryKind } from '../../../src/restart/entries.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { foldEntries, recordedDocument } from '../../../src/restart/recorded-state.ts';

const RECORDER = '{"process":{"start":7,"boot":""},"pid":1,"restarts":0,"deaths":0,"started":0}';
const SERVER = {
  min_workers: 5,
  max_workers: 20,
  priority_workers: 5,
  max_clients: 10,
  max_anonymous_clients: 10,
  keepaliveInterval: 4294967295,
  keepaliveCount: 0,
  next_client_id: 1,
  services: [],
  clients: [],
};
const INQUIRY = { counters: {}, refused: 0, refusals: '' };

/** As a document, of a store that has only these. */
function documentOf(settings: unknown, stored: readonly number[]): ReturnType<typeof parseDocument> {
  const state = foldEntries([
    entry(EntryKind.PROCESS, RECORDER),
    ...['"virtlockd"', '"admin"'].map((name) => entry(EntryKind.SERVER, name, JSON.stringify(SERVER))),
    entry(EntryKind.SETTINGS, JSON.stringify(settings)),
  ]);
  return parseDocument(recordedDocument(state, (name) => (stored.includes(name) ? name : undefined)));
}

describe('the state on record', () => {
  it('names the helpers that have ended, and those whose sockets the store has not got', () => {
    const helper = (id: number, pid?: number) => ({ id, key: `${id}`, name: '/m', socket: 10 + id, pid });
    const storage = [helper(2, 302), helper(3, 303), helper(4)];
    const { own } = documentOf({ inquiry: INQUIRY, storage, endedStorage: [{ id: 1, pid: 301 }] }, [12]);
    assert.deepEqual(own?.storage, [helper(2, 302)]);
    assert.deepEqual(own.endedStorage, [
      { id: 1, pid: 301 },
      { id: 3, pid: 303 },
    ]);
    assert.equal(documentOf({ inquiry: INQUIRY, storage: [helper(2, 302)] }, [12]).own?.endedStorage, undefined);
  });

  it('is read without those peers whose descriptors the store has not got, and with all owners that are watched', () => {
    const { own } = documentOf(
      {
        inquiry: INQUIRY,
        watched: [
          { pid: 300, pidfd: 10, startTime: 7 },
          { pid: 301, pidfd: 11 },
        ],
        doubtful: [
          { pid: 302, client: 1, name: 'vm', socket: 12 },
          { pid: 303, client: 2, name: 'vm', socket: 13 },
        ],
      },
      [11, 12],
    );
    assert.deepEqual(own?.watched, [
      { pid: 300, startTime: 7 },
      { pid: 301, pidfd: 11 },
    ]);
    assert.deepEqual(own.doubtful, [{ pid: 302, client: 1, name: 'vm', socket: 12 }]);
  });
});
