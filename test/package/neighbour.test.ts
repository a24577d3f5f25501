/** On Debian 13 the lock daemon is a package of its own, libvirt-daemon-lock, which stops whatever lock daemon serves when it is removed. */
import assert from 'node:assert/strict';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lock, type Peer } from '../../src/lab/wire.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile } from './deb.ts';
import { Machine, missingMachine } from './machine.ts';
import { debian13Machine } from './trees.ts';

describe("the package beside libvirt's", function () {
  this.timeout(120_000);
  let machine: Machine;
  let holder: Peer;

  before(async function () {
    skipIf(this, missingMachine(debian13Machine));
    const packaged = packageFile();
    machine = await Machine.boot(debian13Machine);
    // It would keep the scripts of packages from stopping anything.
    rmSync(machine.outside('/usr/sbin/policy-rc.d'), { force: true });
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
    await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
    await machine.must('systemctl', 'start', 'virtlockd.service');
    writeFileSync(machine.outside('/root/image'), '');
    holder = await machine.connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
    await holder.must(lock.acquire('', '/root/image'));
  });

  after(async () => {
    (holder as Peer | undefined)?.close();
    await (machine as Machine | undefined)?.stop();
  });

  it('keeps locks and connections when that is removed', async () => {
    const { code, stdout, stderr } = await machine.run('apt-get', 'remove', '--yes', 'libvirt-daemon-lock');
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout + stderr, /Job for virtlockd\.service canceled/, 'its script has tried to stop the daemon');
    const { ActiveState } = await machine.service();
    assert.equal(ActiveState, 'active');
    await holder.must(lock.release('', '/root/image'));
    await holder.must(lock.acquire('', '/root/image'));
    const other = await machine.connect();
    await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
    assert.equal((await other.ask(lock.acquire('', '/root/image')))?.code, 87);
    other.close();
  });
});
