/**
 * Other users' processes that seem to be lock daemons, or keep whoever reads of them: installation, upgrade and removal neither fail nor wait
 * for them. A user's real lock daemon takes part.
 */
import assert from 'node:assert/strict';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { HangingStorage } from '../../src/lab/hanging-storage.ts';
import { type LockRow, lockOn } from '../../src/lab/observe.ts';
import { minimalEnvironment } from '../../src/lab/place.ts';
import { eventually, programImage, Running } from '../../src/lab/process.ts';
import { missingFuse } from '../../src/lab/requirements.ts';
import { ordinaryUser } from '../../src/lab/root.ts';
import { checkout } from '../../src/lab/trees.ts';
import { lock } from '../../src/lab/wire.ts';
import { PROGRAM } from '../../src/libvirt/paths.ts';
import { socketsOf } from '../../src/proc/descriptors.ts';
import { programOf, statOf } from '../../src/proc/processes.ts';
import { listeningSockets } from '../../src/proc/sockets.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile, variant } from './deb.ts';
import { Scene } from './scene.ts';
import { debian12, missingRelease } from './trees.ts';

const runtime = '/usr/lib/virtlockd-node/bin/node';
/** Less than the package would wait for any one of these processes, and far more than it needs. */
const LIMIT_S = '20';
const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];

/** A lock daemon's script in words and sockets, which heeds no signal and answers nobody. */
const DEAF = `process.on('SIGUSR1', () => {}).on('SIGTERM', () => {});
const { createServer } = require('node:net');
const { mkdirSync } = require('node:fs');
const directory = '/tmp/' + process.pid;
mkdirSync(directory);
for (const name of ['virtlockd-sock', 'virtlockd-admin-sock']) createServer(() => {}).listen(directory + '/' + name);
process.stdout.write('ready');
setInterval(() => {}, 1e6);
`;

/** Sockets by names with a line break, behind which another row of /proc/net/unix seems to begin: of the daemon's socket, elsewhere. */
const FORGER = `const { createServer } = require('node:net');
const [, , ...rows] = process.argv;
for (const row of rows) {
  for (let copy = 0; copy < 64; copy++) createServer(() => {}).listen('\\0' + copy + '\\n' + row);
  createServer(() => {}).listen(row.split(' ').at(-1));
}
process.stdout.write('ready');
`;

/** Holds one lock, and takes and gives back another all the while. */
const OWNER = `import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { lock, Peer } from '${checkout}/src/lab/wire.ts';
const [, , socket, image, other] = process.argv;
let peer;
while (peer === undefined) {
  peer = await Peer.connect(socket).catch(() => undefined);
  await pause(20);
}
for (const file of [image, other]) writeFileSync(file, '');
await peer.must(lock.register({ pid: process.pid, name: 'guest' }));
await peer.must(lock.acquire('', image));
for (;;) {
  await peer.must(lock.acquire('', other));
  await peer.must(lock.release('', other));
  console.log('served');
  await pause(20);
}
`;

/** A guest's process, which was root's when it connected, as libvirtd makes it. */
const GUEST = `import { lock, Peer } from '${checkout}/src/lab/wire.ts';
const peer = await Peer.connect('/run/libvirt/virtlockd-sock');
await peer.must(lock.register({ pid: process.pid, name: 'guest' }));
process.setgid(65534);
process.setuid(65534);
process.stdout.write('ready');
setInterval(() => peer, 1e6);
`;

describe('the package among other users’ processes', function () {
  this.timeout(120_000);
  let scene: Scene;
  let held: LockRow[];
  const strangers: Running[] = [];
  let storage: HangingStorage | undefined;

  before(async function () {
    skipIf(this, missingRelease(debian12), missingFuse());
    packageFile();
    scene = await Scene.open(debian12);
    held = scene.locks();
    scene.lab.write('/opt/dist/start.cjs', DEAF);
    scene.lab.write('/opt/churn/dist/start.cjs', '');
    scene.lab.write('/opt/forger.cjs', FORGER);
  });

  after(async () => {
    await storage?.end();
    await (scene as Scene | undefined)?.close();
  });

  function stranger(...words: readonly string[]): Running {
    const [program = '', ...args] = words;
    const running = scene.lab.spawn(program, args);
    strangers.push(running);
    return running;
  }

  /** A process of nobody, with the words of a lock daemon, by the package's own runtime. */
  async function liar(): Promise<Running> {
    const running = stranger('setpriv', ...nobody, runtime, '/opt/dist/start.cjs', PROGRAM);
    await eventually('it is up', () => running.output === 'ready');
    return running;
  }

  /** dpkg, or an error after some time. */
  async function dpkg(...args: readonly string[]): Promise<string> {
    return scene.must('timeout', ['--signal=KILL', LIMIT_S, 'dpkg', ...args]);
  }

  async function assertNothingLost(runs: 'c' | 'own'): Promise<void> {
    assert.equal(scene.runs(), runs);
    assert.deepEqual(scene.locks(), held);
    await scene.assertServes();
    assert.deepEqual(
      strangers.filter(({ finished }) => finished !== undefined).map(({ output }) => output),
      [],
      'no stranger was ended',
    );
  }

  it("is installed under libvirt's daemon beside one of that name, and forged rows about the daemon's sockets", async () => {
    const namesake = scene.lab.spawn(PROGRAM, ['--timeout', '600'], { ordinary: true });
    // A guest that was broken out of executes a program by the name of libvirt's daemon, which would have a request under way.
    scene.lab.write('/opt/guest.mjs', GUEST);
    scene.lab.write('/opt/libvirtd', '');
    await scene.must('mount', ['--bind', process.execPath, '/opt/libvirtd']);
    const guest = stranger('/opt/libvirtd', '/opt/guest.mjs');
    await eventually('it is up', () => guest.output === 'ready');
    const own = socketsOf(scene.daemon.pid);
    const rows = listeningSockets(scene.daemon.pid).filter(({ inode }) => own.has(inode));
    assert.equal(rows.length, 2);
    const forged = rows.map(
      ({ inode, path }) =>
        `0: 2 0 10000 1 1 ${inode} /tmp/${path.endsWith('admin-sock') ? 'a/virtlockd-admin' : 'b/virtlockd'}-sock`,
    );
    for (const name of ['a', 'b']) {
      mkdirSync(scene.lab.outside(`/tmp/${name}`));
      chownSync(scene.lab.outside(`/tmp/${name}`), 65534, 65534);
    }
    // The package's runtime is not there yet.
    const node = ['setpriv', ...nobody, process.execPath, '/opt/forger.cjs', ...forged];
    const forger = stranger(...node);
    await eventually('it is up', () => forger.output === 'ready');
    const said = await dpkg('--install', packageFile());
    assert.match(said, /goes on in \/usr\/sbin\/virtlockd, with 3 locks/);
    await assertNothingLost('own');
    assert.ok(programOf(namesake.pid).endsWith(PROGRAM));
    await namesake.stop();
  });

  it('is upgraded among daemons that heed no signal, are stopped, hang or come and go', async () => {
    await liar();
    (await liar()).kill('SIGSTOP');
    // Its /usr never answers. Its root directory is its namespace's own, so that /proc shows its program by the path that it has there.
    const root = join(scene.lab.directory, '.root/root');
    const enter = ['nsenter', '--target', String(scene.daemon.pid), '--mount', '--'];
    const pivot = `cd ${root} && pivot_root . mnt && exec chroot . setpriv ${nobody.join(' ')} "$0" "$@"`;
    const words = [
      'unshare',
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-c',
      pivot,
      runtime,
      '/opt/dist/start.cjs',
      PROGRAM,
    ];
    const hanging = Running.start([...enter, ...words], { env: minimalEnvironment }, {});
    strangers.push(hanging);
    await eventually('it is up', () => hanging.output === 'ready');
    assert.equal(programOf(hanging.pid), runtime);
    const inIt = ['nsenter', '--target', String(hanging.pid), '--mount', '--', '/usr/sbin/chroot', '/mnt'];
    storage = await HangingStorage.mountBy(inIt, `/proc/${hanging.pid}/root/usr`);
    await storage.hang('getattr', 'lookup', 'open', 'read');
    const churn = `while :; do ${runtime} /opt/churn/dist/start.cjs ${PROGRAM}; done`;
    const churning = stranger('setpriv', ...nobody, 'sh', '-c', churn);
    const before = scene.image();
    await dpkg(
      '--install',
      variant('0.2.0', scene.lab.directory, () => undefined),
    );
    assert.notEqual(scene.image(), before);
    await assertNothingLost('own');
    strangers.splice(strangers.indexOf(churning), 1);
    churning.kill('SIGKILL');
  });

  it("has a user's own daemon execute the new program, with its locks, and libvirt's when the package goes", async () => {
    const session = scene.lab.spawn(PROGRAM, ['--timeout', '600'], { ordinary: true });
    const [image, other] = ['image', 'other'].map((name) => join(ordinaryUser.home, name)) as [string, string];
    scene.lab.write('/opt/owner.mjs', OWNER);
    const words = [process.execPath, '/opt/owner.mjs', join(ordinaryUser.sockets, 'virtlockd-sock'), image, other];
    const owner = scene.lab.spawn('sh', ['-c', 'exec "$@" 2>&1', 'sh', ...words], { ordinary: true });
    const served = (): number => owner.output.split('served').length;
    const goesOn = async (): Promise<void> => {
      const before = served();
      await eventually('its owner is served', () => served() > before + 2);
      assert.equal(lockOn(session.pid, scene.lab.outside(image)), 'WRITE 0 0');
    };
    await goesOn();
    const started = statOf(session.pid).startTime;
    const before = programImage(session.pid);
    await dpkg(
      '--install',
      variant('0.3.0', scene.lab.directory, () => undefined),
    );
    await eventually('it is executed again', () => programImage(session.pid) !== before);
    await goesOn();
    await dpkg('--purge', 'virtlockd-node');
    await assertNothingLost('c');
    await scene.assertGone();
    assert.equal(statOf(session.pid).startTime, started);
    await goesOn();
    await owner.stop('SIGKILL');
  });

  it("is removed though a user's daemon holds locks and no other lock daemon is installed", async () => {
    await dpkg('--install', packageFile());
    await assertNothingLost('own');
    await liar();
    await scene.holder.must(lock.release(join(scene.lab.directory, 'leases'), 'one'));
    for (const name of ['plain', 'read', 'read'])
      await scene.holder.must(lock.release('', join(scene.lab.directory, name)));
    scene.holder.close();
    await eventually('nothing is held', () => scene.locks().length === 0);
    const mounted = ['/etc', '/var/lib', '/var/cache', '/var/log'].map((parent) => `${parent}/libvirt`);
    await scene.must('umount', mounted);
    await scene.must('dpkg', ['--purge', '--force-depends', 'libvirt-daemon-system', 'libvirt-daemon']);
    await dpkg('--purge', 'virtlockd-node');
    assert.equal((await scene.daemon.process.exited).code, 0);
  });
});
