import assert from 'node:assert/strict';
import fc from 'fast-check';
import { posix, ResourcePlace } from '../../../src/posix/posix.ts';
import { formatDocument, type StateDocument } from '../../../src/restart/document.ts';
import { parseDocument, parseJson, parseProvenJson } from '../../../src/restart/parse.ts';
import { DocumentError } from '../../../src/state/state.ts';
import { partDocument } from '../../../src/restart/parts.ts';
import { anyDocument, plainDocument } from './documents.ts';

/** The document as plain lists. Undefined counts as absent. */
function spelledOut(document: StateDocument): unknown {
  const lockspaces = Array.from(document.lockspaces, ({ directory, resources }) => ({
    directory,
    resources: [...resources],
  }));
  return JSON.parse(JSON.stringify({ ...document, lockspaces }));
}

const usual = (index: number, more = ''): string =>
  `{"name":"/a/${index}","path":"/a/${index}","fd":${index},"lockHeld":true,"flags":1,"owners":[4557],` +
  `"x-holds":[{"id":5,"name":"vm","uuid":"00010203-0405-0607-0809-0a0b0c0d0e0f","since":1795358400123,"client":7${more}}],` +
  `"x-inode":"2049::12"}`;

function documentWith(...resources: readonly string[]): Buffer {
  const text = JSON.stringify({ ...plainDocument(), defaultLockspace: { resources: [] }, lockspaces: [], magic: '1' });
  const list = `"defaultLockspace":{"resources":[${resources.join()}`;
  const [before = '', after = ''] = text.split('"defaultLockspace":{"resources":[');
  return Buffer.from(
    `${before}${list}${after.slice(0, -1)},"x-virtlockd":{"restarts":0,"started":0,"process":{"start":1,"boot":"1"}}}`,
    'latin1',
  );
}

describe('the resources of a proven document', () => {
  it('are read part by part as they are read at once', () => {
    fc.assert(
      fc.property(anyDocument, (document) => {
        const written = formatDocument(document);
        const parts = parseDocument(parseProvenJson(written));
        // More than once: not only adoption iterates over them.
        for (let i = 0; i < 2; i++) assert.deepEqual(spelledOut(parts), spelledOut(parseDocument(parseJson(written))));
      }),
      { numRuns: 300 },
    );
  });

  it('are all read of a document of C, which proves nothing', () => {
    const json = parseProvenJson(Buffer.from(JSON.stringify(plainDocument()))) as {
      defaultLockspace: { resources: unknown };
    };
    assert.ok(Array.isArray(json.defaultLockspace.resources));
  });

  it('may be very many, in the usual form and in others', () => {
    const texts = Array.from({ length: 1000 }, (_, index) => {
      if (index % 7 === 0) return usual(index, ',"start":600');
      if (index % 11 === 0) return usual(index, ',"foreign":true,"ending":2');
      if (index % 5 === 0)
        return usual(index).replace(/}$/, `,"x-lock":"${index % 2 === 0 ? 'ofd' : 'ofd-degraded'}"}`);
      return index % 13 === 0 ? usual(index).replace('/a/', '/\\"]}},{\\u0001\xe4') : usual(index, ',"start":-1');
    });
    const bytes = documentWith(...texts);
    assert.notEqual(partDocument(bytes), null);
    const read = spelledOut(parseDocument(parseProvenJson(bytes)));
    assert.deepEqual(read, spelledOut(parseDocument(parseJson(bytes))));
  });

  for (const [what, text] of [
    ['no object', '7'],
    ['cut off', usual(1).slice(0, -10)],
    ['of a wrong type', usual(1).replace('"flags":1', '"flags":"1"')],
    ['without a name', usual(1).replace('"name":"/a/1",', '')],
    ['with a number that is none', usual(1).replace('"fd":1', '"fd":01')],
    ['with an owner of a wrong type', usual(1).replace('"id":5', '"id":-5')],
    ['with a UUID that is none', usual(1).replace('0001', 'xxxx')],
  ] as const) {
    it(`is not taken for one when it is ${what}, and those before it are read`, () => {
      const bytes = documentWith(usual(0), text);
      const read: string[] = [];
      assert.throws(() => {
        for (const { resources } of parseDocument(parseProvenJson(bytes)).lockspaces) {
          for (const { name } of resources) read.push(name);
        }
      }, DocumentError);
      assert.ok(read.length <= 1);
    });
  }

  it('are looked for in no byte beyond the end, whatever it is cut to', () => {
    const bytes = Buffer.from(`${usual(1)},${usual(2, ',"start":12')},{"a":"}\\\\","b":{"c":[{}]}}`, 'latin1');
    const places = new Float64Array(8 * ResourcePlace.FIELDS);
    assert.equal(posix.scanResources(bytes, 0, bytes.length, places), 3);
    const ends = [0, 1, 2].map((index) => places[index * ResourcePlace.FIELDS + ResourcePlace.END]);
    for (let length = 1; length < bytes.length; length++) {
      // At the end of its own buffer: nothing after it may be read.
      const cut = Buffer.from(bytes.subarray(0, length));
      const count = posix.scanResources(cut, 0, length, places);
      assert.equal(count, ends.includes(length) ? ends.indexOf(length) + 1 : -1, String(length));
    }
    assert.equal(posix.scanResources(bytes, 0, bytes.length + 1, places), -1);
    assert.equal(posix.scanResources(bytes, -1, 5, places), -1);
  });

  it('take no room that is not there', () => {
    const bytes = Buffer.from(Array.from({ length: 5 }, (_, index) => usual(index)).join(), 'latin1');
    const places = new Float64Array(2 * ResourcePlace.FIELDS);
    assert.equal(posix.scanResources(bytes, 0, bytes.length, places), 2);
  });
});
