import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ForkWatch } from '../../../src/lab/forks.ts';
import { onPath } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';

/**
 * Forks two processes that wait for a lock which another thread had, one of them by a child that ends at once, and one that waits for a
 * word.
 */
const FORKS = `
import os, threading
lock = threading.Lock()
taken, forked = threading.Event(), threading.Event()
def hold():
    with lock:
        taken.set()
        forked.wait()
threading.Thread(target=hold).start()
taken.wait()
ours, theirs = os.pipe()
stuck = os.fork()
if stuck == 0:
    lock.acquire()
    os._exit(0)
ended, end = os.pipe()
between = os.fork()
if between == 0:
    if os.fork() == 0:
        lock.acquire()
    os._exit(0)
os.close(end)
os.waitpid(between, 0)
sound = os.fork()
if sound == 0:
    os.close(theirs)
    os.read(ours, 1)
    os._exit(7)
forked.set()
_, status = os.waitpid(stuck, 0)
os.read(ended, 1)
os.write(theirs, b'.')
_, other = os.waitpid(sound, 0)
print(os.WTERMSIG(status), os.WEXITSTATUS(other))
`;

describe('a fork that waits for a thread it does not have', () => {
  it('is ended, and no other', async function () {
    skipIf(this, onPath('python3') ? undefined : 'python3 is not installed (package python3)');
    const parent = spawn('python3', ['-c', FORKS], { stdio: ['ignore', 'pipe', 'inherit'] });
    const forks = new ForkWatch(() => [parent.pid ?? 0]);
    try {
      let output = '';
      parent.stdout.on('data', (part: Buffer) => (output += part.toString()));
      await once(parent, 'close');
      assert.equal(output, '9 7\n');
      assert.equal(forks.killed.length, 2);
    } finally {
      forks.stop();
      parent.kill('SIGKILL');
    }
  });
});
