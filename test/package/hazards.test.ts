/** When the package must not or cannot swap, the daemon goes on as it was, and the operator gets the reason. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LockRow } from '../../src/lab/observe.ts';
import { reexecute, startDaemon } from '../../src/lab/start.ts';
import { eventually } from '../../src/lab/process.ts';
import { PROGRAM } from '../../src/libvirt/paths.ts';
import { skipIf } from '../support/skip.ts';
import { lock } from '../../src/lab/wire.ts';
import { packageFile, variant } from './deb.ts';
import { Scene } from './scene.ts';
import { debian12, missingRelease, openRelease } from './trees.ts';

const swap = '/usr/lib/virtlockd-node/bin/virtlockd-swap';

/** Whether there is anything by that name; links may lead elsewhere when seen from outside. */
const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

describe('the package, where a swap cannot be', function () {
  this.timeout(120_000);
  let scene: Scene;
  let held: LockRow[];
  let started: number;

  before(async function () {
    skipIf(this, missingRelease(debian12));
    packageFile();
    scene = await Scene.open(debian12);
    started = Date.now();
    held = scene.locks();
  });

  after(async () => {
    await (scene as Scene | undefined)?.close();
  });

  it('leaves a C daemon alone while a client has not called, or descriptors are lacking: it would exit', async () => {
    // A re-execution makes the C daemon forget who has called. Clients from before it had registered.
    await eventually('another second has begun', () => Math.floor(Date.now() / 1000) > Math.floor(started / 1000));
    await reexecute(scene.daemon);
    const silent = await scene.daemon.connect();
    const said = await scene.must('dpkg', ['--install', packageFile()]);
    assert.match(said, /is left as it is: client \d+ is connected and has not called yet/);
    assert.match(said, /have it execute this\n.*\/virtlockd-swap\n/);
    assert.equal(scene.runs(), 'c');
    assert.deepEqual(scene.locks(), held);
    assert.equal(await scene.maxClients(), 1024);
    silent.close();
    const softLimit = (most: number): void => {
      execFileSync('prlimit', ['--pid', String(scene.daemon.pid), `--nofile=${most}:`]);
    };
    softLimit(12);
    assert.match(
      await scene.must(swap, [], 75),
      /is left as it is: our launcher, beside the C daemon.* needs 8 free descriptors, and of 12 \d+ are free: raise the limit/,
    );
    assert.equal(scene.runs(), 'c');
    assert.deepEqual(scene.locks(), held);
    softLimit(1024);
    assert.match(await scene.must(swap, []), /goes on in \/usr\/sbin\/virtlockd, with 3 locks/);
    assert.equal(scene.runs(), 'own');
    assert.deepEqual(scene.locks(), held);
    await scene.assertServes();
  });

  it('leaves the old program running when an upgrade does not run, and says so', async () => {
    const before = scene.image();
    const broken = variant('90.0.0', scene.lab.directory, (tree) => {
      writeFileSync(join(tree, 'usr/lib/virtlockd-node/dist/virtlockd.cjs'), 'throw new Error("broken");\n');
    });
    const said = await scene.must('dpkg', ['--install', broken], 1);
    assert.match(
      said,
      /goes on in its former program: \/usr\/sbin\/virtlockd does not run: [^]*virtlockd\.cjs is not of build/,
    );
    assert.equal(scene.image(), before);
    assert.deepEqual(scene.locks(), held);
    await scene.assertServes();
    // The daemon itself refuses it, too.
    process.kill(scene.daemon.pid, 'SIGUSR1');
    await scene.assertServes();
    assert.equal(scene.image(), before);
  });

  it('is executed again by the next good upgrade', async () => {
    const before = scene.image();
    await scene.must('dpkg', ['--install', variant('91.0.0', scene.lab.directory, () => undefined)]);
    assert.notEqual(scene.image(), before);
    assert.deepEqual(scene.locks(), held);
    await scene.assertServes();
  });

  it('is not removed while a client has not registered, unless that is closed', async () => {
    const silent = await scene.daemon.connect();
    const said = await scene.must('dpkg', ['--purge', 'virtlockd-node'], 1);
    assert.match(
      said,
      new RegExp(`left as it is: client \\d+ \\(pid ${process.pid}\\) is connected and has not registered`),
    );
    assert.match(said, /not removed: the running lock daemon does not go on in libvirt's program/);
    assert.equal(scene.runs(), 'own');
    assert.deepEqual(scene.locks(), held);
    // The daemon's own program lies at the path still: it is executed again, after the client was closed.
    await scene.must(swap, ['--back', '--force']);
    assert.equal((await silent.drain()).length, 0);
    assert.deepEqual(scene.locks(), held);
  });

  it("is not removed while libvirt's program would not start, and can be removed when it would", async () => {
    const configuration = '/etc/libvirt/virtlockd.conf';
    const pristine = readFileSync(scene.lab.outside(configuration), { flag: 'a+' });
    const broken = {
      'max_clients = "x"\n': /'max_clients' parameter: .*: correct the file/,
      'log_outputs = "1:file:/none/log"\n': /failed to open \/none\/log: No such file or directory/,
    };
    for (const [text, reason] of Object.entries(broken)) {
      scene.lab.write(configuration, text);
      for (let attempts = 0; attempts < 2; attempts++) {
        const said = await scene.must('dpkg', ['--purge', 'virtlockd-node'], 1);
        assert.match(said, /goes on in its former program: .* refuses the new program: libvirt 9\.0\.0 would end/);
        assert.match(said, reason);
        assert.match(said, /not removed: the running lock daemon does not go on in libvirt's program/);
        assert.equal(scene.runs(), 'own');
        assert.equal(readlinkSync(scene.lab.outside(PROGRAM)), '/usr/lib/virtlockd-node/bin/virtlockd');
        assert.deepEqual(scene.locks(), held);
        await scene.assertServes();
        const status = ['--show', '--showformat', '${db:Status-Status}', 'virtlockd-node'];
        assert.equal(await scene.must('dpkg-query', status), 'installed');
      }
    }
    // Such a mistake is nothing to our own program: an older one takes over from a newer one.
    await scene.must('dpkg', ['--install', variant('0.0.9', scene.lab.directory, () => undefined)]);
    assert.equal(scene.runs(), 'own');
    assert.deepEqual(scene.locks(), held);
    scene.lab.write(configuration, pristine);
  });

  it('is not removed while it holds what the C daemon cannot read', async () => {
    const name = Buffer.concat([Buffer.from(join(scene.lab.directory, 'name-')), Buffer.from([0xff])]);
    writeFileSync(name, '');
    await scene.holder.must(lock.acquire('', name));
    const said = await scene.must('dpkg', ['--purge', 'virtlockd-node'], 1);
    assert.match(said, /not removed: the running lock daemon does not go on in libvirt's program/);
    assert.equal(scene.runs(), 'own');
    assert.equal(readlinkSync(scene.lab.outside(PROGRAM)), '/usr/lib/virtlockd-node/bin/virtlockd');
    assert.equal(scene.locks().length, held.length + 1);
    await scene.holder.must(lock.release('', name));
    await scene.must('dpkg', ['--purge', 'virtlockd-node']);
    assert.equal(scene.runs(), 'c');
    assert.deepEqual(scene.locks(), held);
    await scene.assertServes();
    await scene.assertGone();
  });
});

describe("the package without libvirt's", function () {
  this.timeout(120_000);

  it('brings configuration, sockets and all, and goes when it holds nothing', async function () {
    skipIf(this, missingRelease(debian12));
    const lab = await openRelease(debian12);
    try {
      const run = async (status: number, ...command: readonly string[]): Promise<string> => {
        const [name = '', ...args] = command;
        const { code, stdout, stderr } = await lab.run(name, args);
        assert.equal(code, status, stdout + stderr);
        return stdout + stderr;
      };
      // Mounted over in every lab, which its removal does not expect.
      const mounted = ['/etc', '/var/lib', '/var/cache', '/var/log'].map((parent) => `${parent}/libvirt`);
      await run(0, 'umount', ...mounted);
      await run(0, 'dpkg', '--purge', '--force-depends', 'libvirt-daemon-system', 'libvirt-daemon');
      for (const file of ['/usr/sbin/virtlockd', '/etc/libvirt/virtlockd.conf', '/etc/default/virtlockd']) {
        assert.equal(isThere(lab.outside(file)), false, file);
      }
      await run(0, 'dpkg', '--install', packageFile());
      const configuration = lab.outside('/etc/libvirt/virtlockd.conf');
      const pristine = readFileSync(configuration, 'latin1');
      assert.equal(pristine, readFileSync(lab.outside('/usr/share/virtlockd-node/virtlockd.conf'), 'latin1'));
      assert.equal(existsSync(lab.outside('/etc/default/virtlockd')), true);
      assert.equal(isThere(lab.outside('/etc/systemd/system/sockets.target.wants/virtlockd.socket')), true);
      writeFileSync(configuration, `${pristine}max_clients = 77\n`);
      await run(0, 'dpkg', '--install', packageFile());
      assert.match(readFileSync(configuration, 'latin1'), /max_clients = 77/);

      const daemon = await startDaemon('9.0.0', { lab });
      const holder = await daemon.connect();
      await holder.must(lock.register({ pid: 5_000_000 }));
      writeFileSync(join(lab.directory, 'held'), '');
      await holder.must(lock.acquire('', join(lab.directory, 'held')));
      assert.match(
        await run(1, 'dpkg', '--purge', 'virtlockd-node'),
        /holds 1 lock, and there is no other lock daemon/,
      );
      await holder.must(lock.release('', join(lab.directory, 'held')));
      holder.close();
      await run(0, 'dpkg', '--purge', 'virtlockd-node');
      assert.equal((await daemon.process.exited).code, 0);
      assert.equal(isThere(lab.outside('/usr/sbin/virtlockd')), false);
      assert.equal(isThere(lab.outside('/etc/systemd/system/sockets.target.wants/virtlockd.socket')), false);
      assert.equal(existsSync(configuration), true, 'a changed configuration stays');
      assert.equal(existsSync(lab.outside('/etc/default/virtlockd')), false);
    } finally {
      await lab.close();
    }
  });
});
