/** Each block of commands in the documents has a test that runs it as it is printed, or a reason why none can. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { pages, placesOf } from '../../support/blocks.ts';

describe('the blocks of commands in the documents', () => {
  const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '*.md'], {
    cwd: checkout,
    encoding: 'utf8',
  });

  for (const page of tracked.trim().split('\n')) {
    it(`of ${page} are each run by a test, or not for a reason`, () => {
      const { test, tests = {}, untested = {} } = pages[page] ?? {};
      const places = new Map(placesOf(page));
      for (const [name, place] of places) assert.ok(place !== undefined, `${page}: ${name}`);
      for (const name of [...Object.keys(tests), ...Object.keys(untested)]) assert.ok(places.has(name), name);
      // The function has a test run each of its blocks.
      for (const file of new Set([...Object.values(tests), ...(test === undefined ? [] : [test])])) {
        const source = readFileSync(join(checkout, file), 'utf8');
        for (const word of ['blocksFor(', `'${page}'`, `'${file}'`])
          assert.ok(source.includes(word), `${file}: ${word}`);
      }
    });
  }
});
