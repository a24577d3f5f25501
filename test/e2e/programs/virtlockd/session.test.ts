import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { programOf } from '../../../../src/lab/start.ts';
import { makeImage } from '../../../../src/lab/guest.ts';
import { Libvirtd } from '../../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../../src/lab/observe.ts';
import { eventually, executeAgain } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { type Lab, ordinaryUser } from '../../../../src/lab/root.ts';
import { openLab } from '../../../../src/lab/trees.ts';
import { libvirtGeneration, underTest } from '../../under-test.ts';

describe(`session mode, lock daemon: ${underTest}`, function () {
  this.timeout(60_000);
  let lab: Lab;
  let libvirtd: Libvirtd;
  let image: string;

  beforeEach(async function () {
    skipIf(this, missingDaemon(underTest), missingGuests(libvirtGeneration));
    lab = await openLab(libvirtGeneration);
    image = makeImage(lab.directory, 'session.img');
  });

  afterEach(async function () {
    this.timeout(60_000);
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  /** Starts libvirtd; VIRTLOCKD_PATH is where it looks for a lock daemon to start when none answers. */
  async function start(directory: string): Promise<void> {
    libvirtd = new Libvirtd(lab, { ordinary: true, env: { VIRTLOCKD_PATH: directory } });
    await libvirtd.start();
  }

  const daemonPid = (): number =>
    Number(readFileSync(lab.outside(join(ordinaryUser.runtime, 'libvirt/virtlockd.pid')), 'latin1'));
  const commandLine = (pid: number): string[] => readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  const runsNode = (pid: number): boolean => commandLine(pid).some((word) => word.endsWith('/node'));

  it('is started by an ordinary user’s libvirtd, and serves its guest', async () => {
    await start(dirname(programOf(underTest)));
    assert.equal(existsSync(lab.outside(join(ordinaryUser.runtime, 'libvirt/virtlockd.pid'))), false);
    await libvirtd.run({ name: 'session', disks: [{ image }] });

    const pid = daemonPid();
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    assert.match(status, new RegExp(`^Uid:\\s+${ordinaryUser.uid}\\s`, 'm'));
    assert.equal(
      commandLine(pid).some((word) => /^--timeout=\d+$/.test(word)),
      true,
    );
    assert.equal(runsNode(pid), underTest === 'ours');

    assert.equal(lockOn(pid, image), 'WRITE 0 0');
    await libvirtd.must('suspend', 'session');
    assert.equal(lockOn(pid, image), undefined);
    await libvirtd.must('resume', 'session');
    assert.equal(lockOn(pid, image), 'WRITE 0 0');
    await libvirtd.must('destroy', 'session');
    await eventually('the lock is free', () => lockOn(pid, image) === undefined, 5_000);
  });

  it('is exchanged under the guest: from C to this one, to itself, back to C and to this one', async function () {
    if (libvirtGeneration === '7.0.0') skipIf(this, 'C 7.0.0 does not survive SIGUSR1');
    const directory = join(lab.directory, 'sbin');
    mkdirSync(directory);
    const ours = programOf(underTest);
    const theirs = programOf(libvirtGeneration);
    lab.install(theirs, join(directory, 'virtlockd'));
    await start(directory);
    await libvirtd.run({ name: 'swapped', disks: [{ image }] });
    const pid = daemonPid();
    for (const next of [ours, ours, theirs, ours]) {
      lab.install(next, join(directory, 'virtlockd'));
      await executeAgain(pid);
      assert.equal(lockOn(pid, image), 'WRITE 0 0');
      await libvirtd.must('suspend', 'swapped');
      assert.equal(runsNode(pid), next.endsWith('/bin/virtlockd'));
      assert.equal(lockOn(pid, image), undefined);
      await libvirtd.must('resume', 'swapped');
      assert.equal(lockOn(pid, image), 'WRITE 0 0');
      assert.equal(daemonPid(), pid);
    }
    process.kill(libvirtd.pidOf('swapped'), 'SIGKILL');
    await eventually('the lock is free', () => lockOn(pid, image) === undefined, 1_000);
  });
});
