/** The tool's whole output reaches every reader. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { checkout } from '../../../../src/lab/trees.ts';

const SIZE = 1_000_000;
const output = JSON.stringify(path.join(checkout, 'src/programs/lockctl/output.ts'));
const printer = [
  path.join(checkout, 'scripts/node'),
  '--input-type=module',
  '--eval',
  `import { print } from ${output}; print('x'.repeat(${SIZE}));`,
];

/** Prints into a non-blocking pipe, whose reader begins only when it is full. Prints the received text and the status. */
const reader = `
import os, select, subprocess, sys
there, here = os.pipe()
os.set_blocking(here, False)
child = subprocess.Popen(sys.argv[1:], stdout=here)
while select.select([], [here], [], 0)[1]: pass
os.close(here)
size = 0
while chunk := os.read(there, 65536): size += len(chunk)
print(size, child.wait())
`;

describe('printing', function () {
  this.timeout(20_000);

  it('waits for a slow reader of a pipe that does not wait itself', () => {
    const { stdout } = spawnSync('python3', ['-c', reader, ...printer], { encoding: 'latin1', timeout: 15_000 });
    assert.equal(stdout, `${SIZE + 1} 0\n`);
  });

  it('takes a reader that has seen enough for no error', () => {
    const command = '"$@" | head -c 1; exit ${PIPESTATUS[0]}';
    const { stdout, stderr, status } = spawnSync('bash', ['-c', command, 'bash', ...printer], {
      encoding: 'latin1',
      timeout: 15_000,
    });
    assert.deepEqual([stdout, stderr, status], ['x', '', 0]);
  });
});
