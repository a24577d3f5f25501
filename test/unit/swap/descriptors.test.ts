import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lackOfDescriptors } from '../../../src/swap/descriptors.ts';

describe('the free descriptors of a process that is to be swapped', () => {
  let child: ChildProcess;

  beforeEach(() => {
    // It has descriptors 0 to 2 and no other.
    child = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore'] });
  });
  afterEach(async () => {
    const exit = once(child, 'exit');
    child.kill();
    await exit;
  });

  function lack(limits: string): string | undefined {
    execFileSync('prlimit', ['--pid', String(child.pid), `--nofile=${limits}`]);
    return lackOfDescriptors(child.pid ?? 0);
  }

  it('are as many as the runtime needs, below the hard limit', () => {
    assert.equal(lack('64:64'), undefined);
    assert.match(
      lack('34:34') ?? '',
      /^the runtime needs 32 free descriptors, and of 34 \d+ are free: raise the limit \(prlimit --pid \d+ --nofile=35:35\)/,
    );
  });

  it('are enough below the soft limit, too, for what comes before the runtime', () => {
    assert.equal(lack('11:64'), undefined);
    assert.match(lack('10:64') ?? '', /needs 8 free descriptors, and of 10 7 are free: .* --nofile=11:64\)/);
  });

  it('are too few where they cannot be counted', () => {
    assert.match(lackOfDescriptors(4_200_000) ?? '', /^cannot find out how many descriptors process 4200000 has free/);
  });
});
