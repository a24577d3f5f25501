/** What V8's code caches have is still what runs in a start and soon after: scripts/warm/*.txt. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { functionsThatRun } from '../../scripts/warm/functions.ts';
import { checkout } from '../../src/lab/trees.ts';
import { skipIf } from '../support/skip.ts';

/** What no list has because it runs now and then only, and changes of the last days, in percent of what runs. */
const MOST_MISSING = 5;

describe('the code caches', function () {
  this.timeout(120_000);

  it('have the functions that run in a start', async function () {
    skipIf(this, existsSync(join(checkout, 'dist/virtlockd.cjs')) ? undefined : 'dist/virtlockd.cjs is not built');
    const functions = await functionsThatRun();
    assert.equal(functions.size, 4);
    for (const [program, ran] of functions) {
      const list = new Set(readFileSync(join(checkout, `scripts/warm/${program}.txt`), 'utf8').split('\n'));
      const missing = [...ran].filter((name) => !list.has(name));
      assert.ok(ran.size > 50, `${program}: ${ran.size} functions`);
      assert.ok(
        missing.length * 100 <= ran.size * MOST_MISSING,
        `'npm run warm-up' is due: scripts/warm/${program}.txt lacks ${missing.length} of ${ran.size}: ${missing.slice(0, 20).join(', ')}`,
      );
    }
  });
});
