/** Files of the daemon's own, named as resources. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, unlinkSync } from 'node:fs';
import { type LockDaemon, reexecute, startDaemon } from '../lab/daemon.ts';
import { lockOn } from '../lab/observe.ts';
import { missingDaemon, skipIf } from '../lab/requirements.ts';
import { lock, shared } from '../lab/wire.ts';

const PID_FILE = '/run/virtlockd.pid';

describe("the daemon's pid file as a resource", () => {
  let daemon: LockDaemon;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('is refused, so that its lock cannot be dropped, also after a re-execution', async () => {
    for (let i = 0; i < 2; i++) {
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: 4_200_000 }));
      for (const flags of [0, shared]) assert.equal((await peer.ask(lock.acquire('', PID_FILE, flags)))?.code, 87);
      await peer.must(lock.createResource('', PID_FILE));
      assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
      peer.close();
      await reexecute(daemon);
    }
  });

  it('is made anew at a re-execution when it was removed, and the removed one is not kept open', async () => {
    const descriptors = `/proc/${daemon.pid}/fd`;
    const removed = (): string[] =>
      readdirSync(descriptors)
        .map((fd) => readlinkSync(`${descriptors}/${fd}`))
        .filter((file) => file.includes(`${PID_FILE} (deleted)`));
    unlinkSync(daemon.lab.outside(PID_FILE));
    assert.equal(removed().length, 1);
    await reexecute(daemon);
    assert.deepEqual(removed(), []);
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
  });
});
