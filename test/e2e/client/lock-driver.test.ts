/** The lock driver beside real libvirtds: both call a server that grants everything, and must send the same bytes. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import {
  type DiskOptions,
  LockDriver,
  type LockDriverOptions,
  LeaseRequired,
  RemoteFailure,
} from '../../../src/client/index.ts';
import { type Disk, type Lease, makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { eventually } from '../../../src/lab/process.ts';
import { generations } from '../../../src/lab/generation.ts';
import { missingGuests } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { decode } from '../../../src/lab/wire.ts';
import { FakeDaemon, refusal } from '../../support/fake-daemon.ts';

const RESOURCE_BUSY = 87;

/** The owner of a REGISTER. A test cannot know only its pid and id beforehand. */
function ownerIn(message: Buffer): { uuid: Buffer; name: Buffer; id: number; pid: number } {
  const { procedure, payload } = decode(message.subarray(4, message.readUInt32BE(0)));
  assert.equal(procedure, 1);
  const length = payload.readUInt32BE(16);
  const behind = 20 + Math.ceil(length / 4) * 4;
  return {
    uuid: payload.subarray(0, 16),
    name: payload.subarray(20, 20 + length),
    id: payload.readUInt32BE(behind),
    pid: payload.readUInt32BE(behind + 4),
  };
}

const optionsOf = ({ access }: Disk): DiskOptions => ({
  shared: access === 'shareable',
  readonly: access === 'readonly',
});

for (const generation of generations) {
  describe(`the lock driver beside libvirtd ${generation}`, function () {
    this.timeout(90_000);
    let lab: Lab;
    let ear: FakeDaemon;
    let libvirtd: Libvirtd;

    const open = async (options: { fileLockspace?: string } = {}): Promise<void> => {
      lab = await openLab(generation);
      lab.write('/run/libvirt/mark', '');
      ear = await FakeDaemon.listen(lab.outside('/run/libvirt/virtlockd-sock'));
      libvirtd = new Libvirtd(lab, options.fileLockspace === undefined ? {} : { fileLockspace: options.fileLockspace });
      await libvirtd.start();
    };

    before(function () {
      skipIf(this, missingGuests(generation));
    });

    afterEach(async () => {
      await (libvirtd as Libvirtd | undefined)?.stop();
      await (ear as FakeDaemon | undefined)?.close();
      await (lab as Lab | undefined)?.close();
    });

    /** The messages of each connection while `work` runs. */
    const heard = async (work: () => Promise<unknown>): Promise<Buffer[]> => {
      const from = ear.said.length;
      await work();
      return ear.said.slice(from);
    };

    const destroyed = async (name: string): Promise<void> => {
      await libvirtd.must('destroy', name);
      await eventually('the guest is gone and its connection with it', () => ear.connections === 0);
    };

    /** A guest's start, suspend, resume, and end: by libvirtd, and by this driver in its name. */
    const compare = async (
      disks: readonly Disk[],
      leases: readonly Lease[],
      options: LockDriverOptions,
    ): Promise<void> => {
      const started = await heard(async () => libvirtd.run({ name: 'guest', disks, leases }));
      const suspended = await heard(async () => {
        await libvirtd.must('suspend', 'guest');
      });
      const resumed = await heard(async () => libvirtd.must('resume', 'guest'));
      await destroyed('guest');
      const driver = await LockDriver.open({ ...options, socket: lab.outside('/run/libvirt/virtlockd-sock') });
      const [first = Buffer.alloc(0)] = started;
      const manager = driver.manager(ownerIn(first));
      for (const { target, lockspace, key } of leases) manager.addLease({ directory: `${target}/${lockspace}`, key });
      for (const disk of disks) manager.addDisk(disk.image, optionsOf(disk));
      assert.deepEqual(
        await heard(async () => {
          const guard = await manager.register({ restrict: true });
          await manager.acquire();
          guard.close();
        }),
        started,
      );
      // A guest that is suspended is released twice: by the command, and by the event of QEMU; the second is refused elsewhere.
      const [released] = await heard(async () => {
        await manager.release();
      });
      assert.deepEqual(suspended[0], released);
      assert.deepEqual(
        await heard(async () => {
          await manager.acquire();
        }),
        resumed.slice(-1),
      );
      const view: { inquire(): unknown } = manager;
      assert.equal(view.inquire(), undefined);
    };

    it('leases and disks, plain, shared and read-only', async () => {
      await open();
      const [plain, shared, readonly] = ['plain', 'shared', 'readonly'].map((name) => makeImage(lab.directory, name));
      assert.ok(plain !== undefined && shared !== undefined && readonly !== undefined);
      await compare(
        [{ image: plain }, { image: shared, access: 'shareable' }, { image: readonly, access: 'readonly' }],
        [{ lockspace: 'leases', key: 'the-key', target: lab.directory }],
        {},
      );
    });

    it('an indirect lockspace', async () => {
      const fileLockspace = '/run/indirect locks';
      await open({ fileLockspace });
      const created = ear.said.slice();
      const images = ['one', 'two'].map((name) => makeImage(lab.directory, name));
      const disks = images.map((image, index): Disk => (index === 0 ? { image } : { image, access: 'shareable' }));
      const opened = await heard(async () =>
        LockDriver.open({ socket: lab.outside('/run/libvirt/virtlockd-sock'), fileLockspace }),
      );
      assert.deepEqual(opened, created);
      await compare(disks, [], { fileLockspace });
    });

    it('a guest that is refused half way: nothing is taken back', async () => {
      await open();
      const images = ['one', 'two', 'three'].map((name) => makeImage(lab.directory, name));
      ear.judge = ({ procedure, payload }) =>
        procedure === 6 && payload.includes('two') ? refusal(RESOURCE_BUSY, 'resource busy: so it is') : undefined;
      const said = await heard(async () => {
        const refused = await libvirtd.create({ name: 'guest', disks: images.map((image) => ({ image })) });
        assert.match(refused.stderr, /resource busy: so it is/);
      });
      const [first = Buffer.alloc(0)] = said;
      await eventually('nobody is connected', () => ear.connections === 0);
      const driver = await LockDriver.open({ socket: lab.outside('/run/libvirt/virtlockd-sock') });
      const manager = driver.manager(ownerIn(first));
      for (const image of images) manager.addDisk(image);
      const ours = await heard(async () => {
        const guard = await manager.register({ restrict: true });
        const error = await manager.acquire().catch((caught: unknown) => caught);
        assert.ok(error instanceof RemoteFailure && error.isBusy);
        assert.equal(error.message, 'resource busy: so it is');
        guard.close();
      });
      assert.deepEqual(ours, said.slice(0, ours.length));
    });
  });
}

describe('the lock driver without automatic leases', () => {
  const owner = { uuid: '00000000-0000-0000-0000-00000000002a', name: 'guest', id: 1, pid: 5_000_000 };

  it('wants a lease of whoever writes alone, and locks no disk', async () => {
    const driver = await LockDriver.open({ autoDiskLeases: false, fileLockspace: '/nowhere', socket: '/nowhere' });
    const manager = driver.manager(owner);
    manager.addDisk('/shared', { shared: true });
    manager.addDisk('/readonly', { readonly: true });
    await assert.rejects(manager.register(), { name: 'ConnectionLost', code: 'ENOENT' });
    manager.addDisk('/alone');
    await assert.rejects(manager.acquire(), LeaseRequired);
    manager.addLease({ directory: join('/leases', 'one'), key: 'key' });
    await assert.rejects(manager.acquire(), { name: 'ConnectionLost' });
    const lenient = await LockDriver.open({ autoDiskLeases: false, requireLeaseForDisks: false, socket: '/nowhere' });
    const other = lenient.manager(owner);
    other.addDisk('/alone');
    await assert.rejects(other.acquire(), { name: 'ConnectionLost' });
  });

  it('takes no owner that cannot be sent', async () => {
    const driver = await LockDriver.open();
    assert.throws(() => driver.manager({ ...owner, uuid: 'none' }), TypeError);
    assert.throws(() => driver.manager({ ...owner, uuid: Buffer.alloc(15) }), TypeError);
    assert.throws(() => driver.manager({ ...owner, name: 'a\0b' }), TypeError);
    assert.throws(() => driver.manager({ ...owner, name: 'a'.repeat(65_537) }), RangeError);
    assert.throws(() => driver.manager({ ...owner, pid: -1 }), RangeError);
    assert.throws(() => driver.manager({ ...owner, id: 2 ** 32 }), RangeError);
  });
});
