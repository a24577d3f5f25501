/** The values of locks in etcd, which whoever may write there may have written. */
import assert from 'node:assert/strict';
import { noteIn, parseValue } from '../../../src/etcd/values.ts';
import { refusalNotes } from '../../../xdr/programs/inquire.ts';
import { XdrWriter } from '../../../xdr/codec.ts';

const sound = {
  host: 'node7',
  hostUuid: '00000000-0000-0000-0000-000000000007',
  mode: 'shared',
  since: Date.parse('2026-11-30T08:15:00Z'),
  owners: [{ name: 'db', uuid: '00000000-0000-0000-0000-000000000001', pid: 7 }],
  count: 1,
};

describe('the value of a lock in etcd', () => {
  it('is what another host has written', () => {
    assert.deepEqual(parseValue(JSON.stringify(sound)), sound);
    const { owners, count, mode, ...rest } = sound;
    assert.deepEqual(noteIn(JSON.stringify(sound)), {
      ...rest,
      ...owners[0],
      shared: mode === 'shared',
      owners: count,
    });
  });

  it('is none without a host, a time and owners', () => {
    for (const value of [
      '',
      'null',
      '7',
      '{',
      '[]',
      '"x"',
      '{"host":1,"since":1,"owners":[]}',
      '{"host":"a","since":1}',
    ])
      assert.equal(parseValue(value), null, value);
    assert.equal(noteIn(JSON.stringify({ ...sound, owners: [] })), null);
    assert.equal(noteIn(JSON.stringify({ ...sound, owners: [null] })), null);
  });

  it('has room in a refusal, and a time that can be printed, whatever somebody has written', () => {
    const long = 'x'.repeat(5000);
    for (const change of [
      { host: long, hostUuid: long, owners: [{ name: long, uuid: long, pid: 7 }] },
      { owners: [{ name: 'db', uuid: '', pid: -1.5 }] },
      { owners: [{ name: 'db', uuid: '', pid: 1e300 }] },
      ...[-1, 0.5, 1e300, 9e15].map((since) => ({ since })),
      ...[-1, 0.5, 1e300].map((count) => ({ count })),
    ]) {
      const note = noteIn(JSON.stringify({ ...sound, ...change }));
      assert.ok(note !== null);
      refusalNotes.write(new XdrWriter(), { sequence: 1, notes: [note] });
      assert.ok(!Number.isNaN(new Date(note.since).getTime()));
    }
  });
});
