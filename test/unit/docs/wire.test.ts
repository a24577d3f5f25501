import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { wirePage } from '../../../scripts/docs.ts';

describe('docs/wire.md', () => {
  it('is what the descriptions say (npm run docs)', () => {
    assert.equal(readFileSync(path.resolve(import.meta.dirname, '../../../docs/wire.md'), 'utf8'), wirePage());
  });
});
