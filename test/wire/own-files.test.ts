/** Files of the daemon's own, named as resources. */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { admin } from '../../src/conformance/lab/admin-calls.ts';
import { inquireProgram } from '../../xdr/programs/inquire.ts';
import { type LockDaemon, reexecute, startDaemon } from '../lab/daemon.ts';
import { lockOn } from '../lab/observe.ts';
import { eventually } from '../lab/process.ts';
import { missingDaemon, skipIf } from '../lab/requirements.ts';
import { checkout } from '../lab/root.ts';
import { type Call, lock, type Peer, shared, u32 } from '../lab/wire.ts';

const CONFIGURATION = '/etc/libvirt/virtlockd.conf';
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
    const target = (fd: string): string => {
      try {
        return readlinkSync(`${descriptors}/${fd}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        return ''; // closed since it was listed
      }
    };
    const removed = (): string[] =>
      readdirSync(descriptors)
        .map(target)
        .filter((file) => file.includes(`${PID_FILE} (deleted)`));
    unlinkSync(daemon.lab.outside(PID_FILE));
    assert.equal(removed().length, 1);
    await reexecute(daemon);
    assert.deepEqual(removed(), []);
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
  });
});

describe('a file that the daemon itself opens, as a resource', () => {
  let daemon: LockDaemon;
  let holder: Peer;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours', { configuration: '' });
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: 4_200_000 }));
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  async function ask(call: Call): Promise<void> {
    const operator = await daemon.connectAdmin();
    await operator.must(call);
    operator.close();
  }

  it('stays locked when it is the configuration and SIGHUP comes', async () => {
    await holder.must(lock.acquire('', CONFIGURATION));
    daemon.process.kill('SIGHUP');
    await eventually('SIGHUP is heeded', () =>
      daemon.log.includes(`not taken up: ${CONFIGURATION} is a held resource`),
    );
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(CONFIGURATION)), 'WRITE 0 0');
  });

  it('stays locked when it is of the installation and an operator asks for the status', async () => {
    const file = join(checkout, 'package.json');
    await holder.must(lock.acquire('', file, shared));
    await ask({ program: inquireProgram.number, procedure: inquireProgram.procedures.status.number, payload: u32(0) });
    assert.equal(lockOn(daemon.pid, file), 'READ 0 0');
  });

  it('stays locked when it was an output of the log', async () => {
    const file = join(daemon.lab.directory, 'output');
    await ask(admin.setOutputs(`1:file:${file}`));
    await holder.must(lock.acquire('', file));
    await ask(admin.setOutputs('3:stderr'));
    assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
    await holder.must(lock.release('', file));
    assert.equal(lockOn(daemon.pid, file), undefined);
  });
});
