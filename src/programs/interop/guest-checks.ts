/** The checks with a real libvirtd and real guests, which run one after the other in one scene. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reexecute } from '../../lab/start.ts';
import { indirectName } from '../../lab/guest.ts';
import { type Finished, eventually } from '../../lab/process.ts';
import { autocreate, lock } from '../../lab/wire.ts';
import type { Scene } from './scene.ts';

interface GuestCheck {
  readonly name: string;
  readonly promise: string;
  /** @throws AssertionError or Error when it fails */
  readonly run: (scene: Scene) => Promise<void>;
}

/** Asserts that virsh failed with that message at the end. */
function refused({ code, stderr }: Finished, message: string): void {
  assert.deepEqual({ code, stderr: stderr.trim().split('\n').at(-1) }, { code: 1, stderr: `error: ${message}` });
}

const exclusive = 'WRITE 0 0';
const shared = 'READ 0 0';

/** suspend releases the lock of a running guest, resume acquires it again. */
async function suspendAndResume(scene: Scene, name: string, image: string): Promise<void> {
  await scene.virsh('suspend', name);
  assert.equal(scene.lockOn(image), 'none');
  await scene.virsh('resume', name);
  assert.equal(scene.lockOn(image), exclusive);
}

/** With locks on the disks themselves. */
const direct: readonly GuestCheck[] = [
  {
    name: 'guest/plain-disk',
    promise: 'A plain disk is locked in its byte 0, and free when the guest is destroyed.',
    run: async (scene) => {
      const image = scene.image();
      await scene.run('plain', { image });
      assert.equal(scene.lockOn(image), exclusive);
      await scene.virsh('destroy', 'plain');
      await scene.freed(image);
    },
  },
  {
    name: 'guest/suspend-resume',
    promise: 'suspend releases the lock, resume acquires it again.',
    run: async (scene) => {
      const image = scene.image();
      await scene.run('pausing', { image });
      await suspendAndResume(scene, 'pausing', image);
    },
  },
  {
    name: 'guest/shareable-disk',
    promise: 'Two guests share a <shareable/> disk; it is free when both are gone.',
    run: async (scene) => {
      const image = scene.image();
      for (const name of ['shared1', 'shared2']) await scene.run(name, { image, access: 'shareable' });
      assert.equal(scene.lockOn(image), shared);
      await scene.virsh('destroy', 'shared1');
      await eventually('one guest is left', async () => (await scene.libvirtd.guests()).length === 1);
      assert.equal(scene.lockOn(image), shared);
      await scene.virsh('destroy', 'shared2');
      await scene.freed(image);
    },
  },
  {
    name: 'guest/readonly-disk',
    promise: 'A <readonly/> disk is not locked.',
    run: async (scene) => {
      const image = scene.image();
      await scene.run('readonly', { image, access: 'readonly' });
      assert.equal(scene.lockOn(image), 'none');
    },
  },
  {
    name: 'guest/many-disks',
    promise: 'Every disk of a guest is locked, and all are free when it is destroyed.',
    run: async (scene) => {
      const images = Array.from({ length: 6 }, () => scene.image());
      await scene.run('many', ...images.map((image) => ({ image })));
      assert.deepEqual(
        images.map((image) => scene.lockOn(image)),
        images.map(() => exclusive),
      );
      await scene.virsh('destroy', 'many');
      for (const image of images) await scene.freed(image);
    },
  },
  {
    name: 'guest/hotplug',
    promise: 'A disk plugged into a running guest is locked.',
    run: async (scene) => {
      const [image, plugged] = [scene.image(), scene.image()];
      await scene.run('hot', { image });
      await scene.virsh('attach-disk', 'hot', plugged, 'vdb', '--live', '--driver', 'qemu', '--subdriver', 'raw');
      assert.deepEqual([scene.lockOn(image), scene.lockOn(plugged)], [exclusive, exclusive]);
    },
  },
  {
    name: 'guest/save-restore',
    promise: 'A saved guest holds nothing, a restored one its disk again.',
    run: async (scene) => {
      const image = scene.image();
      const state = join(scene.storage, 'saved');
      await scene.run('saved', { image });
      await scene.virsh('save', 'saved', state);
      await scene.freed(image);
      await scene.virsh('restore', state);
      assert.equal(scene.lockOn(image), exclusive);
    },
  },
  {
    name: 'guest/killed',
    promise: 'The lock of a QEMU that is killed is free within a second.',
    run: async (scene) => {
      const image = scene.image();
      const pid = await scene.run('killed', { image });
      process.kill(pid, 'SIGKILL');
      await scene.freed(image, 1_000);
      await eventually('libvirtd has noticed', async () => (await scene.libvirtd.guests()).length === 0);
    },
  },
  {
    name: 'lease/second-guest-refused',
    promise: 'The second of two guests with one <lease> is refused, and starts when the first is gone.',
    run: async (scene) => {
      const leases = [{ lockspace: 'leases', key: 'key', target: scene.storage }];
      await scene.prepare(join(scene.storage, 'leases'), 'key');
      await scene.libvirtd.run({ name: 'lease1', leases });
      assert.equal(scene.lockOn(join(scene.storage, 'leases', 'key')), exclusive);
      const second = await scene.libvirtd.create({ name: 'lease2', leases });
      refused(second, "resource busy: Lockspace resource 'key' is locked");
      assert.deepEqual(await scene.libvirtd.guests(), ['lease1']);
      await scene.virsh('destroy', 'lease1');
      await scene.freed(join(scene.storage, 'leases', 'key'));
      await scene.libvirtd.run({ name: 'lease2', leases });
    },
  },
  {
    name: 'lease/lockspace-missing',
    promise: 'A guest with an unknown lockspace is refused.',
    run: async (scene) => {
      const leases = [{ lockspace: 'nowhere', key: 'key', target: scene.storage }];
      const answer = await scene.libvirtd.create({ name: 'nowhere', leases });
      refused(answer, `internal error: Lockspace for path ${scene.storage}/nowhere does not exist`);
    },
  },
  {
    name: 'lease/resource-missing',
    promise: 'A guest with a missing lease is refused.',
    run: async (scene) => {
      await scene.prepare(join(scene.storage, 'sparse'), 'other');
      const leases = [{ lockspace: 'sparse', key: 'missing', target: scene.storage }];
      const answer = await scene.libvirtd.create({ name: 'missing', leases });
      refused(answer, `Unable to open resource ${scene.storage}/sparse/missing: No such file or directory`);
    },
  },
  {
    name: 'libvirtd/restart',
    promise: 'Locks stay while libvirtd restarts, and it goes on with them.',
    run: async (scene) => {
      const image = scene.image();
      await scene.run('staying', { image });
      await scene.libvirtd.stop();
      assert.equal(scene.lockOn(image), exclusive);
      await scene.libvirtd.start();
      assert.deepEqual(await scene.libvirtd.guests(), ['staying']);
      await suspendAndResume(scene, 'staying', image);
      await scene.virsh('destroy', 'staying');
      await scene.freed(image);
    },
  },
  {
    name: 'daemon/reexec',
    promise: 'SIGUSR1 replaces the lock daemon under a guest, and no lock is lost.',
    run: async (scene) => {
      const image = scene.image();
      await scene.run('carried', { image });
      await reexecute(scene.daemon);
      assert.equal(scene.lockOn(image), exclusive);
      await suspendAndResume(scene, 'carried', image);
      await scene.virsh('destroy', 'carried');
      await scene.freed(image);
    },
  },
  {
    name: 'daemon/killed',
    promise: 'Without a lock daemon guests run on and none starts; the next lock daemon serves them again.',
    run: async (scene) => {
      const [old, image] = [scene.image(), scene.image()];
      await scene.run('orphan', { image: old });
      await scene.daemon.stop('SIGKILL');
      const { code } = await scene.libvirtd.create({ name: 'early', disks: [{ image }] });
      assert.equal(code, 1);
      assert.deepEqual(await scene.libvirtd.guests(), ['orphan']);
      await scene.startAgain();
      await scene.run('late', { image });
      assert.equal(scene.lockOn(image), exclusive);
      assert.deepEqual(await scene.libvirtd.guests(), ['late', 'orphan']);
    },
  },
];

/** With locks on files of an indirect lockspace. */
const indirect: readonly GuestCheck[] = [
  {
    name: 'indirect/disk',
    promise: "The lock file is named by the SHA-256 of the disk's path, and is gone when the guest is.",
    run: async (scene) => {
      const image = scene.image();
      const file = join(scene.indirect, indirectName(image));
      await scene.run('indirect', { image });
      assert.deepEqual([scene.lockOn(file), scene.lockOn(image)], [exclusive, 'none']);
      await scene.virsh('destroy', 'indirect');
      await eventually('the lock file is gone', () => !existsSync(file), 5_000);
    },
  },
  {
    name: 'indirect/shared-disk',
    promise: 'Two guests with a <shareable/> disk share its lock file, which the last removes.',
    run: async (scene) => {
      const image = scene.image();
      const file = join(scene.indirect, indirectName(image));
      for (const name of ['both1', 'both2']) await scene.run(name, { image, access: 'shareable' });
      assert.equal(scene.lockOn(file), shared);
      await scene.virsh('destroy', 'both1');
      await eventually('one guest is left', async () => (await scene.libvirtd.guests()).length === 1);
      assert.equal(scene.lockOn(file), shared);
      await scene.virsh('destroy', 'both2');
      await eventually('the lock file is gone', () => !existsSync(file), 5_000);
    },
  },
  {
    name: 'indirect/taken',
    promise: 'A guest whose lock file another client holds is refused, also when the disk is plugged in.',
    run: async (scene) => {
      const [image, free] = [scene.image(), scene.image()];
      const name = indirectName(image);
      const other = await scene.daemon.connect();
      try {
        await other.must(lock.register({ pid: 5_000_000 }));
        // libvirtd made the lockspace when it started.
        await other.must(lock.acquire(scene.indirect, name, autocreate));
        const message = `resource busy: Lockspace resource '${name}' is locked`;
        refused(await scene.libvirtd.create({ name: 'taken', disks: [{ image }] }), message);
        await scene.run('plugging', { image: free });
        const plug = ['attach-disk', 'plugging', image, 'vdb', '--live', '--driver', 'qemu', '--subdriver', 'raw'];
        const { code, stderr } = await scene.libvirtd.virsh(...plug);
        assert.deepEqual([code, stderr.includes(message)], [1, true], stderr);
        await other.must(lock.release(scene.indirect, name));
      } finally {
        other.close();
      }
      await scene.run('taken', { image });
      assert.equal(scene.lockOn(join(scene.indirect, name)), exclusive);
    },
  },
];

/** The checks in their order; `indirect`: needs the indirect lockspace. */
export const guestChecks: readonly (GuestCheck & { readonly indirect: boolean })[] = [
  ...direct.map((check) => ({ ...check, indirect: false })),
  ...indirect.map((check) => ({ ...check, indirect: true })),
];
