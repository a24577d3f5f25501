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
