import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { checkout } from '../../../../src/lab/trees.ts';

/** Prints when it can be interrupted and when it was, and goes on. */
const program = `
import { catchInterrupts } from ${JSON.stringify(path.join(checkout, 'src/programs/lockctl/command-line.ts'))};
const abort = new AbortController();
abort.signal.addEventListener('abort', () => console.log('interrupted'));
catchInterrupts(abort);
setInterval(() => undefined, 1000);
console.log('ready');
`;

describe('a command that goes on until it is interrupted', () => {
  for (const [first, second] of [
    ['SIGINT', 'SIGINT'],
    ['SIGINT', 'SIGTERM'],
    ['SIGTERM', 'SIGINT'],
  ] as const) {
    it(`is told by ${first}, and ended by ${second} after it`, async () => {
      const node = path.join(checkout, 'scripts/node');
      const child = spawn(node, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      child.kill(first);
      assert.equal(String((await once(child.stdout, 'data'))[0]), 'interrupted\n');
      child.kill(second);
      assert.deepEqual(await once(child, 'exit'), [null, second]);
    });
  }
});
