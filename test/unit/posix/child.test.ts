/** The start of children where the kernel, or what stands in for it, knows less. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { missingStrace } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';

/** Prints how a child ended, and how many descriptors it had beside those that it is to have. */
const SCRIPT = `
import { openSync } from 'node:fs';
import { runChildAtOnce } from './src/posix/child.ts';
openSync('/dev/null');
const { end, output } = runChildAtOnce({ file: '/bin/ls', args: ['/proc/self/fd'], limit: 10_000 });
console.log(end, output.trim().split('\\n').length);
`;

describe('a child', () => {
  /** @param error of clone, the first time */
  function run(error: string): string {
    const words = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=clone', '-e', `inject=clone:error=${error}:when=1`];
    const node = [process.execPath, '--input-type=module', '--eval', SCRIPT];
    const { stdout, stderr } = spawnSync('strace', [...words, ...node], { cwd: checkout, encoding: 'utf8' });
    return `${stdout}${stderr}`;
  }

  before(function () {
    skipIf(this, missingStrace());
  });

  it('is started without sharing the descriptors where that is not known, as under QEMU, and gets none of them', () => {
    // Its standard streams, and the directory that it reads.
    assert.equal(run('EINVAL'), 'exited with 0 4\n');
  });

  it('is not started when there is no memory', () => {
    assert.match(run('ENOMEM'), /SpawnError: ENOMEM: Cannot allocate memory/);
  });
});
