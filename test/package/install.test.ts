/**
 * The package in fresh Debian trees with libvirt's own lock daemon at work: apt-get install, --reinstall and purge under a
 * running guest and a stand-in owner. One process all the way, and every lock.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeImage } from '../../src/lab/guest.ts';
import { Libvirtd } from '../../src/lab/libvirtd.ts';
import { type LockRow, lockOn } from '../../src/lab/observe.ts';
import { eventually } from '../../src/lab/process.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile, packageVersion, variant } from './deb.ts';
import { Scene } from './scene.ts';
import { debian12, debian13, missingRelease, type Release } from './trees.ts';

/** The release before this one. Its tree here is this one's: dpkg, apt and the scripts see a version that goes down and up. */
const FORMER = '0.1.0';

for (const release of [debian12, debian13]) describeRelease(release);

function describeRelease(release: Release): void {
  describe(`the package in ${release.name}`, function () {
    this.timeout(120_000);
    let scene: Scene;
    let libvirtd: Libvirtd;
    let held: LockRow[];
    const image = (): string => join(scene.lab.directory, 'guest.img');

    before(async function () {
      skipIf(this, missingRelease(release));
      packageFile();
      scene = await Scene.open(release);
      libvirtd = new Libvirtd(scene.lab);
      await libvirtd.start();
      await libvirtd.run({ name: 'guest', disks: [{ image: makeImage(scene.lab.directory, 'guest.img') }] });
      held = scene.locks();
      assert.equal(held.length, 4);
    });

    after(async () => {
      await (libvirtd as Libvirtd | undefined)?.stop();
      await (scene as Scene | undefined)?.close();
    });

    /** Guests come and go, and the running one gives its lock back and takes it again. */
    async function assertServesLibvirt(): Promise<void> {
      await scene.assertServes();
      await libvirtd.must('suspend', 'guest');
      await eventually('the suspended guest has released', () => lockOn(scene.daemon.pid, image()) === undefined);
      await libvirtd.must('resume', 'guest');
      assert.equal(lockOn(scene.daemon.pid, image()), 'WRITE 0 0');
      const second = makeImage(scene.lab.directory, 'second.img');
      await libvirtd.run({ name: 'second', disks: [{ image: second }] });
      assert.equal(lockOn(scene.daemon.pid, second), 'WRITE 0 0');
      await libvirtd.must('destroy', 'second');
      await eventually('the second guest is gone', () => lockOn(scene.daemon.pid, second) === undefined);
      assert.deepEqual(scene.locks(), held);
      assert.equal(await scene.maxClients(), 1024);
    }

    it('apt-get install: the same process goes on in this program, with every lock', async () => {
      const said = await scene.must('apt-get', ['install', '--yes', packageFile()]);
      assert.match(said, new RegExp(`process ${scene.daemon.pid}: goes on in /usr/sbin/virtlockd, with 4 locks`));
      assert.equal(scene.runs(), 'own');
      assert.deepEqual(scene.locks(), held);
      await assertServesLibvirt();
      assert.match(
        await scene.must('dpkg-divert', ['--list', '/usr/sbin/virtlockd']),
        /to \/usr\/sbin\/virtlockd\.libvirt/,
      );
      assert.match(await scene.must('virt-lockctl', ['status']), new RegExp(String(scene.daemon.pid)));
      assert.match(await scene.must('virt-lockctl', ['--version']), /^\d+\.\d+\.\d+\n$/);
    });

    it('apt-get install --reinstall: it is executed again', async () => {
      const before = scene.image();
      await scene.must('apt-get', ['install', '--reinstall', '--yes', packageFile()]);
      assert.equal(scene.runs(), 'own');
      assert.notEqual(scene.image(), before);
      assert.deepEqual(scene.locks(), held);
      await assertServesLibvirt();
    });

    it('apt-get install of the former release and of this one: the version goes down and up, and every lock stays', async () => {
      const former = variant(FORMER, scene.lab.directory, (tree) => {
        const manifest = join(tree, 'usr/lib/virtlockd-node/package.json');
        writeFileSync(manifest, `${JSON.stringify({ name: 'virtlockd', version: FORMER })}\n`);
      });
      for (const [file, version] of [
        [former, FORMER],
        [packageFile(), packageVersion],
      ] as const) {
        const before = scene.image();
        await scene.must('apt-get', ['install', '--allow-downgrades', '--yes', file]);
        assert.notEqual(scene.image(), before);
        assert.equal(scene.runs(), 'own');
        assert.equal(await scene.must('virt-lockctl', ['--version']), `${version}\n`);
        assert.match(await scene.must('virt-lockctl', ['status']), new RegExp(`virtlockd-node ${version}, speaks as `));
        // libvirtd, virsh and virt-admin see the version of the libvirt that it stands for, whatever ours.
        assert.match(await scene.must('/usr/sbin/virtlockd', ['--version']), /virtlockd \(libvirt\) 12\.8\.0\n$/);
        assert.deepEqual(scene.locks(), held);
      }
      await assertServesLibvirt();
    });

    it('apt-get purge: the same process goes on in the C daemon, with every lock', async () => {
      await scene.must('apt-get', ['purge', '--yes', 'virtlockd-node']);
      assert.equal(scene.runs(), 'c');
      assert.deepEqual(scene.locks(), held);
      await assertServesLibvirt();
      await scene.assertGone();
      assert.equal(scene.daemon.process.finished, undefined);
    });
  });
}
