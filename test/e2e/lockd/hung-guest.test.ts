/** A guest's disk is on storage that does not answer: its calls wait, and the other guests of the host live and die as ever. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { makeImage } from '../../../src/lab/guest.ts';
import { HangingStorage, type StorageRequest } from '../../../src/lab/hanging-storage.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse, missingGuests } from '../../../src/lab/requirements.ts';
import { Lab } from '../../../src/lab/root.ts';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { ownDirectories } from '../../../src/lab/trees.ts';
import { lock } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';

const NOBODY = 4_200_000; // above every pid there can be: its end kills nobody
const BUSY = 87;
/** How long a step of another guest may take on a busy machine. One that waits for the storage takes for ever. */
const BOUND_MS = 15_000;
/** How much longer than three times as usual a migration may take: the machine may be busier by then. */
const SPARE_MS = 5000;
const PEER_UUID = '11111111-2222-3333-4444-555555555555';
const ALL: readonly StorageRequest[] = ['lookup', 'getattr', 'open', 'flush', 'read', 'write'];

describe('guests of a real libvirtd, one on storage that does not answer', function () {
  this.timeout(120_000);
  let daemon: LockDaemon;
  let libvirtd: Libvirtd;
  /** Another host, with its own lock daemon. */
  let peer: { readonly daemon: LockDaemon; readonly libvirtd: Libvirtd } | undefined;
  let storage: HangingStorage;
  let disk: string;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingGuests('9.0.0'), missingFuse());
    daemon = await startDaemon('ours');
    const { lab } = daemon;
    const mount = join(lab.directory, 'storage');
    // Its own locks would know no ranges: QEMU has locks of other bytes.
    storage = await HangingStorage.mountIn(lab, { hasData: true });
    disk = `${mount}/disk`;
    libvirtd = new Libvirtd(lab);
    await libvirtd.start();
  });

  after(async () => {
    await (storage as HangingStorage | undefined)?.letGo();
    await (libvirtd as Libvirtd | undefined)?.stop();
    await peer?.libvirtd.stop();
    await peer?.daemon.stop();
    await peer?.daemon.lab.close();
    await (storage as HangingStorage | undefined)?.end();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  async function within<T>(what: string, step: Promise<T>, bound = BOUND_MS): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(reject, bound, new Error(`${what} waits`));
    });
    try {
      return await Promise.race([step, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The life of another guest. */
  async function live(name: string): Promise<void> {
    const image = makeImage(daemon.lab.directory, `${name}.img`);
    const saved = join(daemon.lab.directory, `${name}.saved`);
    const held = (): boolean => lockOn(daemon.pid, image) === 'WRITE 0 0';
    const freed = async (): Promise<void> => {
      await eventually(`no lock on ${image}`, () => lockOn(daemon.pid, image) === undefined, BOUND_MS);
    };
    const start = async (): Promise<number> => within('a start', libvirtd.run({ name, disks: [{ image }] }));
    const virsh = async (...args: string[]): Promise<unknown> => within(args.join(' '), libvirtd.must(...args));
    await start();
    assert.ok(held());
    await virsh('suspend', name);
    assert.ok(!held());
    await virsh('resume', name);
    assert.ok(held());
    await virsh('save', name, saved);
    await freed();
    await virsh('restore', saved);
    assert.ok(held());
    await virsh('destroy', name);
    await freed();
    process.kill(await start(), 'SIGKILL');
    await freed();
    // Not by a list of all guests: libvirtd itself makes that wait for the one that is being resumed.
    await eventually('libvirt notices', async () => (await libvirtd.virsh('domstate', name)).code !== 0, BOUND_MS);
  }

  async function isBusy(): Promise<boolean> {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY, name: 'rival' }));
    const code = (await peer.ask(lock.acquire('', disk)))?.code;
    if (code === undefined) await peer.must(lock.release('', disk));
    peer.close();
    return code === BUSY;
  }

  async function startPeer(): Promise<NonNullable<typeof peer>> {
    const lab = await Lab.open({ share: [...ownDirectories, daemon.lab.directory], hostname: 'peer' });
    peer = { daemon: await startDaemon('ours', { lab }), libvirtd: new Libvirtd(lab, { hostUuid: PEER_UUID }) };
    await peer.libvirtd.start();
    return peer;
  }

  /** Works while the guest on the storage waits for its lock. */
  async function whileResumed(work: () => Promise<void>): Promise<void> {
    assert.ok(await isBusy());
    await libvirtd.must('suspend', 'hung');
    assert.ok(!(await isBusy()));
    await storage.hang(...ALL);
    const before = storage.requests.length;
    let isResumed = false;
    const resumed = libvirtd.virsh('resume', 'hung').finally(() => (isResumed = true));
    await storage.asked('lookup', before);
    await work();
    assert.equal(isResumed, false);
    await storage.letGo();
    assert.equal((await resumed).code, 0);
    assert.ok(await isBusy());
    assert.equal(storageHelpers(join(daemon.lab.directory, 'storage')).length, 1);
  }

  it('starts, stops, saves and kills the others, also after a restart, while it is resumed', async () => {
    await libvirtd.run({ name: 'hung', disks: [{ image: disk }] });
    await whileResumed(async () => {
      await live('one');
      await reexecute(daemon);
      await live('two');
    });
  });

  it('migrates another to another host and back, as fast as ever', async () => {
    const there = await startPeer();
    const image = makeImage(daemon.lab.directory, 'roaming.img');
    const socket = join(daemon.lab.directory, 'migration');
    const locks = (): (string | undefined)[] => [daemon, there.daemon].map(({ pid }) => lockOn(pid, image));
    const roam = async (): Promise<number> => {
      const before = performance.now();
      await libvirtd.migrate('roaming', there.libvirtd, socket);
      assert.deepEqual(locks(), [undefined, 'WRITE 0 0']);
      await there.libvirtd.migrate('roaming', libvirtd, socket);
      assert.deepEqual(locks(), ['WRITE 0 0', undefined]);
      return performance.now() - before;
    };
    await libvirtd.run({ name: 'roaming', disks: [{ image }] });
    const usual = await roam();
    await whileResumed(async () => {
      await within('a migration', roam(), 3 * usual + SPARE_MS);
    });
    await libvirtd.must('destroy', 'roaming');
  });

  it('and while it is destroyed, whose lock is free when its storage answers again', async () => {
    await storage.hang(...ALL);
    const destroyed = libvirtd.virsh('destroy', 'hung');
    await live('three');
    await storage.letGo();
    assert.equal((await destroyed).code, 0);
    await eventually('its lock is free', async () => !(await isBusy()), BOUND_MS);
  });
});
