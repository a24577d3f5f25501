import assert from 'node:assert/strict';
import fc from 'fast-check';
import { posix } from '../../../src/posix/posix.ts';
import { type HolderNote, NOTE_SIZE, parseNote, thisHost, writeNote } from '../../../src/storage/holder-note.ts';

const uuid = fc.uuid();
const bytes = (most: number): fc.Arbitrary<string> =>
  fc.uint8Array({ maxLength: most }).map((array) => Buffer.from(array).toString('latin1'));
const notes: fc.Arbitrary<HolderNote> = fc.record({
  host: bytes(100).filter((host) => host !== ''),
  hostUuid: fc.option(uuid),
  name: bytes(300),
  uuid,
  pid: fc.nat(0xffff_ffff),
  shared: fc.boolean(),
  since: fc.nat({ max: 253_402_300_799_999 }),
  owners: fc.nat(0xffff_ffff),
});

/** Any text with the checksum of a note. */
function summed(text: string): Buffer {
  const slot = Buffer.alloc(NOTE_SIZE);
  slot.write(text, 34, 'latin1');
  const sum = (posix.crc32(slot, 34, NOTE_SIZE) >>> 0).toString(16).padStart(8, '0');
  slot.write(`virtlockd holder 1 crc32=${sum}\n`, 'latin1');
  return slot;
}

const LINES = [
  'host=node7',
  'vm=db',
  'uuid=00000000-0000-0000-0000-000000000007',
  'pid=7',
  'mode=exclusive',
  'since=2026-11-30T08:15:00.000Z',
  'owners=1',
];
const textOf = (lines: readonly string[]): string => `${lines.join('\n')}\n`;

describe('a note of a holder', () => {
  it('is read as it was written, with the names cut', () => {
    fc.assert(
      fc.property(notes, (note) => {
        const slot = writeNote(note);
        assert.equal(slot.length, NOTE_SIZE);
        const read = parseNote(slot);
        assert.ok(read !== null);
        const { host, name } = read;
        assert.ok(note.host.startsWith(host) && note.name.startsWith(name));
        assert.ok(host === note.host || host.length > 20);
        assert.ok(name === note.name || name.length >= 60);
        assert.deepEqual({ ...read, host: '', name: '' }, { ...note, host: '', name: '' });
      }),
    );
  });

  it('is no note with any bit changed', () => {
    fc.assert(
      fc.property(notes, fc.nat(NOTE_SIZE * 8 - 1), (note, bit) => {
        const slot = writeNote(note);
        slot[bit >> 3] = (slot[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(parseNote(slot), null);
      }),
    );
  });

  it('is not in any bytes, of any length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2 * NOTE_SIZE }), (array) => {
        assert.equal(parseNote(Buffer.from(array)), null);
      }),
    );
  });

  it('has bounded values, whatever is written with a right checksum', () => {
    const line = fc.oneof(
      bytes(60),
      fc
        .tuple(fc.constantFrom('host', 'vm', 'uuid', 'pid', 'mode', 'since', 'owners'), bytes(80))
        .map((pair) => pair.join('=')),
      fc.constantFrom(...LINES),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        const note = parseNote(summed(textOf(lines).slice(0, NOTE_SIZE - 34)));
        if (note === null) return;
        assert.ok(note.host.length > 0 && note.host.length <= 64 && note.name.length <= 180);
        assert.match(note.uuid, /^[0-9a-f-]{36}$/);
        for (const number of [note.pid, note.owners]) assert.ok(Number.isInteger(number) && number <= 0xffff_ffff);
        assert.ok(Number.isSafeInteger(note.since) && note.since >= 0);
      }),
      { numRuns: 1000 },
    );
  });

  it('needs each of its lines but the host’s UUID, and may have more', () => {
    assert.ok(parseNote(summed(textOf(LINES))) !== null);
    assert.ok(parseNote(summed(textOf([...LINES, 'cluster=north']))) !== null);
    for (const missing of LINES) {
      const rest = LINES.filter((one) => one !== missing);
      assert.equal(parseNote(summed(textOf(rest))), null, missing);
    }
    for (const wrong of [
      'pid=4294967296',
      'pid=-1',
      'mode=any',
      'since=yesterday',
      'since=1969-12-31T23:59:59.000Z',
      'host=',
      'host=a b',
      'vm=%zz',
    ]) {
      assert.equal(parseNote(summed(textOf([...LINES, wrong]))), null, wrong);
    }
  });

  it('has this host’s name', () => {
    assert.notEqual(thisHost().host, '');
  });
});
