/** Documents that C daemons wrote (npm run fixtures:state): read, and written back as they were but for key order and own keys. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { formatDocument } from '../../../src/restart/document.ts';
import { parseDocument, parseJson } from '../../../src/restart/parse.ts';

const directory = path.resolve(import.meta.dirname, '../../../fixtures/state');

describe('state documents of C daemons', () => {
  for (const file of readdirSync(directory)) {
    it(`${file} is read, and written back the same`, () => {
      const bytes = readFileSync(path.join(directory, file));
      const document = parseDocument(parseJson(bytes));
      assert.deepEqual(parseJson(formatDocument(document)), parseJson(bytes));
    });

    it(`${file} has what its daemon held`, () => {
      const { lockspaces, lockServer } = parseDocument(parseJson(readFileSync(path.join(directory, file))));
      const [inDefault = [], ...inOthers] = [...lockspaces].map(({ resources }) => [...resources]);
      assert.deepEqual(
        inDefault.map(({ name, flags, owners }) => [name, flags, owners]),
        [
          ['/lab/exclusive', 0, [4200001]],
          ['/lab/shared', 1, [4200001, 4200002, 4200003, 4200002]],
        ],
      );
      const resources = inOthers.flat();
      assert.deepEqual(
        resources.filter(({ name }) => /^[a-z]/.test(name)).map(({ name, flags, owners }) => [name, flags, owners]),
        [
          ['autocreated', 2, [4200001]],
          ['both', 3, [4200002, 4200003]],
        ],
      );
      assert.ok(resources.some(({ name }) => name === Buffer.from('é"\\\u0002').toString('latin1')));
      // C 7.0.0 has closed its clients by then.
      const clients = [...lockServer.clients];
      const names = clients.map(({ privateData }) => privateData.ownerName);
      if (file !== '7.0.0.json') {
        assert.deepEqual(names, [
          'plain',
          Buffer.from('é "quoted" \\ \u0001\u001f\t\n/\u007f').toString('latin1'),
          '',
          'restricted',
        ]);
        assert.deepEqual(
          clients.map(({ privateData }) => privateData.restricted),
          [false, false, false, true],
        );
      }
    });
  }
});
