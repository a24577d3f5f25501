/** Started as systemd starts it: passed sockets, and notification over re-execution. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { programOf } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';

describe('socket activation', () => {
  it('serves on the sockets it was passed, by name, says so after every start, and leaves them', async function () {
    const python = spawnSync('python3', ['-c', '']).status === 0 ? undefined : 'python3 is not installed';
    skipIf(this, python, missingDaemon('ours'));
    const directory = mkdtempSync(join(tmpdir(), 'virtlockd-activation-'));
    const script = join(import.meta.dirname, 'activate.py');
    const starter = spawn('python3', [script, programOf('ours'), directory], { stdio: ['pipe', 'pipe', 'ignore'] });
    const answers = createInterface(starter.stdout)[Symbol.asyncIterator]();
    const ask = async (command: string): Promise<unknown> => {
      starter.stdin.write(`${command}\n`);
      return (await answers.next()).value;
    };
    try {
      assert.equal(await ask('notified'), 'READY=1');
      for (let round = 0; round < 2; round++) {
        assert.equal(await ask('call lock'), 'unknown procedure: 99');
        assert.equal(await ask('call admin'), 'unknown procedure: 99');
        if (round === 1) break;
        await ask('signal SIGUSR1');
        assert.equal(await ask('notified'), 'READY=1');
      }
      await ask('signal SIGTERM');
      assert.equal(await ask('notified'), 'STOPPING=1');
      assert.equal(await ask('wait'), '0 libvirt virtlockd-admin-sock virtlockd-sock');
    } finally {
      starter.stdin.end();
      starter.kill();
      rmSync(directory, { recursive: true });
    }
  });
});
