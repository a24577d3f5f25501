/** A plain `who` waits in system calls with a time limit, which the kernel ends early when the tool is stopped and continued. */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';

/** Whether a process waits in read(2), whose numbers are those of x86-64 and arm64, on a socket. */
function readsSocket(pid: number): boolean {
  const [, descriptor] = /^(?:0|63) 0x(\w+) /.exec(readFileSync(`/proc/${pid}/syscall`, 'latin1')) ?? [];
  if (descriptor === undefined) return false;
  return readlinkSync(`/proc/${pid}/fd/${parseInt(descriptor, 16)}`).startsWith('socket:');
}

describe('virt-lockctl who, stopped and continued', function () {
  this.timeout(30_000);
  let daemon: LockDaemon | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  after(async () => {
    await daemon?.stop();
  });

  it('waits on for the answer', async () => {
    assert.ok(daemon !== undefined);
    const { lab, pid } = daemon;
    process.kill(pid, 'SIGSTOP');
    try {
      const tool = lab.spawn(join(checkout, 'bin/virt-lockctl'), ['who', '/none']);
      const state = (): string => /^State:\t(\w)/m.exec(readFileSync(`/proc/${tool.pid}/status`, 'latin1'))?.[1] ?? '';
      await eventually('it waits for the daemon', () => readsSocket(tool.pid));
      process.kill(tool.pid, 'SIGSTOP');
      await eventually('it is stopped', () => state() === 'T');
      process.kill(tool.pid, 'SIGCONT');
      await eventually('it waits again, or gave up', () => state() !== 'T');
      process.kill(pid, 'SIGCONT');
      const { code, stdout } = await tool.exited;
      assert.deepEqual([code, stdout], [1, 'No known lock on /none, and there is no such file.\n']);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
});
