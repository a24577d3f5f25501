import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { lock } from '../../../src/lab/wire.ts';
import { libvirtGeneration, underTest } from '../under-test.ts';

describe(`guests of a real libvirtd, lock daemon: ${underTest}`, function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let libvirtd: Libvirtd;

  before(async function () {
    skipIf(this, missingDaemon(underTest), missingGuests(libvirtGeneration));
    daemon = await startDaemon(underTest);
    libvirtd = new Libvirtd(daemon.lab);
    await libvirtd.start();
  });

  afterEach(async () => {
    for (const guest of await libvirtd.guests()) await libvirtd.must('destroy', guest);
  });

  after(async function () {
    this.timeout(60_000);
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** A release follows the guest's end by an instant. */
  const freed = async (image: string): Promise<void> => {
    await eventually(`no lock on ${image}`, () => lockOn(daemon.pid, image) === undefined, 5_000);
  };

  it('locks byte 0 of a plain disk; suspend releases, resume acquires, destroy releases', async () => {
    const image = makeImage(daemon.lab.directory, 'plain.img');
    await libvirtd.run({ name: 'plain', disks: [{ image }] });
    assert.equal(lockOn(daemon.pid, image), 'WRITE 0 0');
    await libvirtd.must('suspend', 'plain');
    assert.equal(lockOn(daemon.pid, image), undefined);
    await libvirtd.must('resume', 'plain');
    assert.equal(lockOn(daemon.pid, image), 'WRITE 0 0');
    await libvirtd.must('destroy', 'plain');
    await freed(image);
  });

  it('lets two guests share a <shareable/> disk', async () => {
    const image = makeImage(daemon.lab.directory, 'shared.img');
    const disks = [{ image, access: 'shareable' }] as const;
    await libvirtd.run({ name: 'shared1', disks });
    await libvirtd.run({ name: 'shared2', disks });
    assert.equal(lockOn(daemon.pid, image), 'READ 0 0');
    await libvirtd.must('destroy', 'shared1');
    await eventually('only one guest is left', async () => (await libvirtd.guests()).length === 1);
    assert.equal(lockOn(daemon.pid, image), 'READ 0 0');
    await libvirtd.must('destroy', 'shared2');
    await freed(image);
  });

  it('takes no lock on a <readonly/> disk', async () => {
    const image = makeImage(daemon.lab.directory, 'readonly.img');
    const before = daemon.locks();
    await libvirtd.run({ name: 'readonly', disks: [{ image, access: 'readonly' }] });
    assert.deepEqual(daemon.locks(), before);
  });

  it('locks a disk plugged into a running guest', async () => {
    const [first, second] = ['hot1.img', 'hot2.img'].map((name) => makeImage(daemon.lab.directory, name));
    assert.ok(first !== undefined && second !== undefined);
    await libvirtd.run({ name: 'hot', disks: [{ image: first }] });
    await libvirtd.must('attach-disk', 'hot', second, 'vdb', '--live', '--driver', 'qemu', '--subdriver', 'raw');
    assert.equal(lockOn(daemon.pid, second), 'WRITE 0 0');
    await libvirtd.must('destroy', 'hot');
    await Promise.all([freed(first), freed(second)]);
  });

  it('refuses the second of two guests with one <lease>', async () => {
    const target = daemon.lab.directory;
    const leases = [{ lockspace: 'leases', key: 'the-key', target }];
    const space = join(target, 'leases');
    const tool = await daemon.connect();
    await tool.must(lock.register({ pid: 5_000_000 }));
    await tool.must(lock.createLockspace(space));
    await tool.must(lock.createResource(space, 'the-key'));
    tool.close();
    await libvirtd.run({ name: 'lease1', leases });
    const second = await libvirtd.create({ name: 'lease2', leases });
    assert.equal(second.code, 1);
    assert.match(second.stderr, /^error: resource busy: Lockspace resource 'the-key' is locked$/m);
    assert.deepEqual(await libvirtd.guests(), ['lease1']);
    await libvirtd.must('destroy', 'lease1');
    await freed(join(space, 'the-key'));
    await libvirtd.run({ name: 'lease2', leases });
  });

  it('refuses a guest whose lockspace nobody created', async () => {
    const target = daemon.lab.directory;
    const refused = await libvirtd.create({ name: 'nowhere', leases: [{ lockspace: 'nowhere', key: 'key', target }] });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /error: internal error: Lockspace for path .*\/nowhere does not exist$/m);
  });

  it('keeps its locks while libvirtd restarts, and libvirtd knows its guests', async () => {
    const image = makeImage(daemon.lab.directory, 'restart.img');
    await libvirtd.run({ name: 'restart', disks: [{ image }] });
    const locks = daemon.locks();
    await libvirtd.stop();
    assert.deepEqual(daemon.locks(), locks);
    await libvirtd.start();
    assert.deepEqual(await libvirtd.guests(), ['restart']);
    assert.deepEqual(daemon.locks(), locks);
    await libvirtd.must('suspend', 'restart');
    assert.equal(lockOn(daemon.pid, image), undefined);
    await libvirtd.must('resume', 'restart');
    assert.deepEqual(daemon.locks(), locks);
    await libvirtd.must('destroy', 'restart');
    await freed(image);
  });

  it('frees the lock of a killed QEMU within a second', async () => {
    const image = makeImage(daemon.lab.directory, 'killed.img');
    const pid = await libvirtd.run({ name: 'killed', disks: [{ image }] });
    process.kill(pid, 'SIGKILL');
    await eventually('the lock is free', () => lockOn(daemon.pid, image) === undefined, 1_000);
    await eventually('libvirtd noticed', async () => (await libvirtd.guests()).length === 0);
  });
});
