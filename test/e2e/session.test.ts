import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { programOf } from '../lab/daemon.ts';
import { makeImage } from '../lab/guest.ts';
import { Libvirtd } from '../lab/libvirtd.ts';
import { lockOn } from '../lab/observe.ts';
import { eventually } from '../lab/process.ts';
import { missingDaemon, missingGuests, skipIf } from '../lab/requirements.ts';
import { Lab, ordinaryUser } from '../lab/root.ts';
import { libvirtGeneration, underTest } from './under-test.ts';

describe(`session mode, lock daemon: ${underTest}`, function () {
  this.timeout(60_000);
  let lab: Lab;
  let libvirtd: Libvirtd;

  before(async function () {
    skipIf(this, missingDaemon(underTest), missingGuests(libvirtGeneration));
    lab = await Lab.open(libvirtGeneration);
    // Where libvirtd looks for a lock daemon to start when its socket does not answer.
    const env = { VIRTLOCKD_PATH: dirname(programOf(underTest)) };
    libvirtd = new Libvirtd(lab, { ordinary: true, env });
    await libvirtd.start();
  });

  after(async function () {
    this.timeout(60_000);
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  it('is started by an ordinary user’s libvirtd, and serves its guest', async () => {
    const pidFile = lab.outside(join(ordinaryUser.runtime, 'libvirt/virtlockd.pid'));
    assert.equal(existsSync(pidFile), false);
    const image = makeImage(lab.directory, 'session.img');
    await libvirtd.run({ name: 'session', disks: [{ image }] });

    const pid = Number(readFileSync(pidFile, 'latin1'));
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    assert.match(status, new RegExp(`^Uid:\\s+${ordinaryUser.uid}\\s`, 'm'));
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    assert.equal(
      commandLine.some((word) => /^--timeout=\d+$/.test(word)),
      true,
    );
    assert.equal(
      commandLine.some((word) => word.includes('/node')),
      underTest === 'ours',
    );

    assert.equal(lockOn(pid, image), 'WRITE 0 0');
    await libvirtd.must('suspend', 'session');
    assert.equal(lockOn(pid, image), undefined);
    await libvirtd.must('resume', 'session');
    assert.equal(lockOn(pid, image), 'WRITE 0 0');
    await libvirtd.must('destroy', 'session');
    await eventually('the lock is free', () => lockOn(pid, image) === undefined, 5_000);
  });
});
