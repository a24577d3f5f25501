/** virt-lockctl health and release --dead, without libvirt: owners that are dead, alive, foreign or nobody's. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HangingStorage, type StorageOptions } from '../../../../src/lab/hanging-storage.ts';
import { type LockDaemon, programOf, reexecute, startDaemon } from '../../../../src/lab/start.ts';
import { eventually, type Finished, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { inquireProgram } from '../../../../xdr/programs/inquire.ts';
import { Client } from '../../../../src/client/client.ts';
import { lock, type Peer } from '../../../../src/lab/wire.ts';
import { skipIf } from '../../../support/skip.ts';

const program = join(checkout, 'bin/virt-lockctl');
/** Above the highest pid. */
const NOBODY = 5_000_000;

interface Health {
  verdict: string;
  locks: number | null;
  findings: { severity: string; kind: string; count: number; items: { text: string }[]; commands: string[] }[];
}

describe('virt-lockctl about owners', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let libvirtd: Peer;
  const children: ChildProcess[] = [];
  const running: Running[] = [];
  /** Labs that do not close with their daemon. */
  const labs: Lab[] = [];
  const at = (name: string): string => join(daemon.lab.directory, name);

  const lockctl = async (...args: readonly string[]): Promise<Finished> => daemon.lab.run(program, args);
  const kinds = async (): Promise<string[]> => {
    const { findings } = JSON.parse((await lockctl('health', '--json')).stdout) as Health;
    return findings.filter(({ severity }) => severity !== 'info').map(({ kind, count }) => `${kind} ${count}`);
  };
  const isHeld = async (name: string): Promise<boolean> => (await lockctl('who', at(name))).code === 0;
  /** A process that stands for a guest's QEMU. */
  const guest = (): { pid: number; end: () => Promise<void> } => {
    const child = spawn('sleep', ['100'], { stdio: 'ignore' });
    children.push(child);
    const end = async (): Promise<void> => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    };
    return { pid: child.pid ?? 0, end };
  };
  /** As libvirtd acquires for a guest that has no connection of its own. */
  const acquireFor = async (pid: number, name: string, vm = 'db', peer = libvirtd): Promise<void> => {
    writeFileSync(at(name), '');
    await peer.must(lock.register({ pid, id: 3, name: vm }));
    await peer.must(lock.acquire('', at(name)));
  };

  const mountStorage = async (options?: StorageOptions): Promise<HangingStorage> => {
    const storage = await HangingStorage.mountIn(daemon.lab, options);
    running.push(storage.server);
    return storage;
  };

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    libvirtd = await daemon.connect();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    (libvirtd as Peer | undefined)?.close();
    for (const one of running.splice(0)) await one.stop('SIGKILL');
    await (daemon as LockDaemon | undefined)?.stop();
    for (const lab of labs.splice(0)) await lab.close();
  });

  it('have what libvirt took for them end with them, before and after a re-execution, and nothing else', async () => {
    const [one, other, third] = [guest(), guest(), guest()];
    await acquireFor(one.pid, 'one');
    await acquireFor(other.pid, 'other', 'web');
    await acquireFor(third.pid, 'third', 'mail');
    assert.deepEqual(await kinds(), []);
    await one.end();
    await eventually('its lock is free', async () => !(await isHeld('one')));
    await reexecute(daemon);
    await eventually('both are watched again', async () => (await kinds()).length === 0);
    await other.end();
    await eventually('its lock is free', async () => !(await isHeld('other')));
    assert.ok(await isHeld('third'));
  });

  it('are released when they are dead, after proof, and if the operator agrees', async () => {
    await acquireFor(NOBODY, 'dead');
    await acquireFor(NOBODY, 'dead too');
    const living = guest();
    await acquireFor(living.pid, 'alive', 'web');
    assert.deepEqual(await kinds(), ['dead-owner 1']);
    const { stdout } = await lockctl('health');
    assert.match(stdout, /^ {2}db \(pid 5000000\) is dead and holds 2 locks$/m);
    assert.match(stdout, /^ {4}virt-lockctl release --dead$/m);
    assert.match((await lockctl('who', at('dead'))).stdout, /^db \(pid 5000000, dead\) holds an exclusive lock/m);
    assert.match(
      (await lockctl('why', at('dead'))).stdout,
      /refused: db \(pid 5000000, dead\) holds an exclusive lock/,
    );

    const silent = await lockctl('release', '--dead');
    assert.deepEqual([silent.code, silent.stderr], [1, '']);
    assert.match(silent.stdout, /\[y\/N\] Nothing was released\.\n$/);
    const answered = async (answer: string): Promise<Finished> =>
      daemon.lab.run('/bin/sh', ['-c', `echo ${answer} | ${program} release --dead '${at('dead')}'`]);
    assert.equal((await answered('n')).code, 1);
    assert.ok(await isHeld('dead'));
    const agreed = await answered('y');
    assert.deepEqual([agreed.code, agreed.stderr], [0, '']);
    assert.match(agreed.stdout, /Released 1 lock of 1 dead owner\.$/m);
    assert.deepEqual([await isHeld('dead'), await isHeld('dead too')], [false, true]);
    assert.match(daemon.log, /Owner 5000000 \(db\) is dead: releasing 1 of its locks, as an operator has asked/);

    const refused = await lockctl('release', '--dead', '--yes', at('alive'));
    assert.deepEqual([refused.code, refused.stderr], [1, '']);
    assert.match(refused.stdout, new RegExp(`^Not released: web \\(pid ${living.pid}\\) is alive\\.$`, 'm'));

    const all = await lockctl('release', '--dead', '--yes', '--json');
    assert.equal(all.code, 0);
    const { released, owners } = JSON.parse(all.stdout) as { released: number; owners: { pid: number }[] };
    assert.deepEqual([released, owners.map(({ pid }) => pid)], [1, [NOBODY]]);
    assert.deepEqual([await isHeld('dead too'), await isHeld('alive')], [false, true]);
    assert.deepEqual(await kinds(), []);
    assert.equal((await lockctl('release', '--dead')).stdout, 'No owner is dead.\n');
  });

  it('are no finding with pid 0, as Xen has them, and are never taken for dead', async () => {
    await acquireFor(0, 'xen', 'domU');
    assert.deepEqual(await kinds(), []);
    assert.equal((await lockctl('check')).code, 0);
    const { code, stdout } = await lockctl('release', '--dead', '--yes', at('xen'));
    assert.equal(code, 1);
    assert.match(stdout, /^Not released: domU \(pid 0\) may be alive: its process is not known\.$/m);
    assert.ok(await isHeld('xen'));
  });

  it('are no finding in another pid namespace, where their numbers mean other processes', async () => {
    writeFileSync(at('inner'), '');
    const script = join(daemon.lab.directory, 'inner.py');
    writeFileSync(script, INNER);
    const inner = daemon.lab.spawn('unshare', [
      '--pid',
      '--fork',
      '--kill-child',
      'python3',
      script,
      daemon.socket,
      at('inner'),
    ]);
    running.push(inner);
    await eventually('it has acquired', () => inner.output.includes('acquired'));
    assert.deepEqual(await kinds(), []);
    assert.equal((await lockctl('check')).code, 0);
    const { code, stdout } = await lockctl('release', '--dead', '--local', '--yes', at('inner'));
    assert.equal(code, 1);
    assert.match(stdout, /may be alive: its process is not known/);
    assert.ok(await isHeld('inner'));
  });

  it('are compared with the kernel although the daemon itself is in another pid namespace', async () => {
    libvirtd.close();
    await daemon.stop();
    const lab = await openLab();
    labs.push(lab);
    lab.write('/run/inner', `#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc ${programOf('ours')}\n`);
    await lab.run('chmod', ['755', '/run/inner']);
    daemon = await startDaemon('ours', { lab, program: '/run/inner' });
    libvirtd = await daemon.connect();
    await acquireFor(guest().pid, 'image');
    assert.deepEqual(await kinds(), []);
    const { code, stdout } = await lockctl('check');
    assert.deepEqual([code, stdout], [0, 'OK: 1 lock, all confirmed by the kernel.\n']);
  });

  it('say that a file was exchanged', async () => {
    await acquireFor(guest().pid, 'image');
    renameSync(at('image'), at('moved'));
    writeFileSync(at('image'), '');
    assert.deepEqual(await kinds(), ['replaced-file 1']);
    assert.match((await lockctl('who', at('image'))).stdout, /the file at its path was exchanged/);
    assert.match((await lockctl('status')).stdout, /^verdict +ERROR: 1 error; 0 guests, 1 lock\.$/m);
    assert.match((await lockctl('metrics')).stdout, /^virtlockd_findings\{severity="error",kind="replaced-file"\} 1$/m);
  });

  it('have a file on storage that may hang, which is found by each of its names', async function () {
    skipIf(this, missingFuse());
    const { mount } = await mountStorage({ hasOwnLocks: true });
    const way = at('way');
    mkdirSync(way);
    assert.equal((await daemon.lab.run('mount', ['--bind', mount, way])).code, 0);
    const { pid } = guest();
    await libvirtd.must(lock.register({ pid, id: 3, name: 'db' }));
    await libvirtd.must(lock.acquire('', join(mount, 'disk')));
    for (const name of [mount, way].map((directory) => join(directory, 'disk'))) {
      assert.match((await lockctl('who', name)).stdout, /^db \(pid \d+\) holds an exclusive lock/m);
      assert.match((await lockctl('why', name)).stdout, /refused: db \(pid \d+\) holds an exclusive lock/);
    }
    assert.match((await lockctl('list')).stdout, / same /);
    await libvirtd.must(lock.release('', join(mount, 'disk')));
  });

  it('are no error on storage whose locks the kernel does not list', async function () {
    skipIf(this, missingFuse());
    const { mount } = await mountStorage({ hasOwnLocks: true });
    await libvirtd.must(lock.register({ pid: guest().pid, id: 3, name: 'db' }));
    await libvirtd.must(lock.acquire('', join(mount, 'disk')));
    const { code, stdout } = await lockctl('check');
    assert.deepEqual(
      [code, stdout],
      [
        0,
        'OK: 1 lock, all confirmed by the kernel but 1, of which fuse has the only record; of 1 on storage that hosts may share, its server confirms 1.\n',
      ],
    );
    assert.deepEqual(await kinds(), []);
    assert.match(
      (await lockctl('health')).stdout,
      /^info: 1 lock is on storage whose locks the kernel does not list$/m,
    );
    await libvirtd.must(lock.release('', join(mount, 'disk')));
  });

  it('have locks in a storage helper, which the kernel confirms though that storage does not answer', async function () {
    skipIf(this, missingFuse());
    const storage = await mountStorage();
    const { mount } = storage;
    const { pid } = guest();
    await libvirtd.must(lock.register({ pid, id: 3, name: 'db' }));
    await libvirtd.must(lock.acquire('', join(mount, 'disk')));
    await libvirtd.must(lock.acquire('', '/dev/zero', 1));
    const confirmed = async (): Promise<void> => {
      assert.deepEqual(
        [(await lockctl('check')).stdout, await kinds()],
        [
          'OK: 2 locks, all confirmed by the kernel; of 1 on storage that hosts may share, its server confirms 1.\n',
          [],
        ],
      );
    };
    await confirmed();
    await reexecute(daemon);
    await confirmed();
    const who = JSON.parse((await lockctl('who', join(mount, 'disk'), '--json')).stdout) as Record<string, unknown>;
    assert.deepEqual([who.daemonItself, who.otherProcesses], [false, []]);
    await storage.hang('lookup', 'getattr', 'open');
    const { code, stdout } = await lockctl('check');
    assert.deepEqual(
      [code, stdout.replaceAll(mount, '~').replace(/since .*/, 'since TIME')],
      [
        1,
        'warning: ~/disk: the storage of this path does not answer, and the file there cannot be checked\nwarning: ~/disk: whether the lock is still held is not known: its file system does not answer since TIME\n2 locks, 0 errors, 2 warnings\n',
      ],
    );
    // A helper whose question hangs would not end before its answer.
    await storage.letGo();
    await eventually('all is well', async () => (await lockctl('check')).code === 0);
    await storage.hang('lookup', 'getattr', 'open');
    // Its successor waits for the storage, and has no lock.
    const client = await Client.connect(daemon.adminSocket);
    const helper = async (): Promise<number> =>
      (await client.call(inquireProgram, 'storages', { flags: 0 })).storages.find(({ name }) => name === mount)?.pid ??
      0;
    const before = await helper();
    assert.ok(before > 0);
    process.kill(before, 'SIGKILL');
    await eventually('it is another process', async () => (await helper()) !== before);
    assert.match((await lockctl('check')).stdout, /disk: a storage helper cannot be looked into/);
    await storage.letGo();
    await eventually('its lock is taken again', async () => (await lockctl('check')).code === 0);
    client.close();
  });

  it('are compared with a guest by its block device, whose node a storage helper has open', async function () {
    const { lab } = daemon;
    const nodes = ['one', 'two'].map((name) => `/dev/shm/${name}`);
    const [one = '', two = ''] = nodes;
    // The real /dev stays as it is.
    await lab.run('mount', ['-t', 'tmpfs', 'tmpfs', '/dev/shm']);
    for (const node of nodes) await lab.run('mknod', [node, 'b', '7', '0']);
    const qemu = '/run/qemu-system-x86_64';
    await lab.run('cp', ['/bin/sleep', qemu]);
    const guestQemu = lab.spawn('sh', ['-c', `exec 3<>${two}; echo opened; exec ${qemu} 100`]);
    running.push(guestQemu);
    await eventually(
      'it has the disk open, or cannot',
      () => guestQemu.finished ?? guestQemu.output.includes('opened'),
    );
    skipIf(this, guestQemu.finished === undefined ? undefined : `no loop device: ${guestQemu.output}`);
    await libvirtd.must(lock.register({ pid: guestQemu.pid, id: 3, name: 'db' }));
    assert.deepEqual(await kinds(), ['unmanaged-qemu 1']);
    await libvirtd.must(lock.acquire('', one));
    assert.deepEqual(await kinds(), []);
  });

  it('keep their locks while the daemon does not answer, which are seen from outside', async () => {
    await acquireFor(guest().pid, 'image');
    process.kill(daemon.pid, 'SIGSTOP');
    try {
      const { code, stdout } = await lockctl('health', '--json');
      assert.equal(code, 3);
      const { verdict, locks } = JSON.parse(stdout) as Health;
      assert.deepEqual([verdict, locks], ['error', 1]);
      assert.match(stdout, /"kind": "daemon-down"/);
    } finally {
      process.kill(daemon.pid, 'SIGCONT');
    }
  });

  it('are found on a block device by the UUID of its logical volume, or its SCSI id', async () => {
    const { lab } = daemon;
    const lockspace = at('lvm');
    await libvirtd.must(lock.register({ pid: guest().pid, id: 3, name: 'db' }));
    await libvirtd.must(lock.createLockspace(lockspace));
    for (const key of ['L8eW5W-abcd-EFGH-1234-ijkl-MNOP-qrstuv', '36001405b2f5']) {
      await libvirtd.must(lock.createResource(lockspace, key));
      await libvirtd.must(lock.acquire(lockspace, key));
    }
    lab.write('/run/udev/data/b259:4001', `E:DM_UUID=LVM-${'a'.repeat(32)}L8eW5WabcdEFGH1234ijklMNOPqrstuv\n`);
    lab.write('/run/udev/data/b259:4002', 'E:ID_SERIAL=36001405b2f5\n');
    // The real /dev stays as it is.
    await lab.run('mount', ['-t', 'tmpfs', 'tmpfs', '/dev/shm']);
    for (const minor of ['4001', '4002']) {
      const node = `/dev/shm/disk${minor}`;
      await lab.run('mknod', [node, 'b', '259', minor]);
      const { code, stdout } = await lockctl('who', node);
      assert.equal(code, 0, stdout);
      assert.match(stdout, /^db \(pid \d+\) holds an exclusive lock as \S+ in lockspace .*\/lvm$/m);
    }
  });
});

describe('virt-lockctl why', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;

  /** A daemon that other users' files are closed to, as those of an NFS server that squashes root. */
  async function startLimited(lab: Lab): Promise<LockDaemon> {
    const limited = '/run/limited';
    lab.write(limited, `#!/bin/sh\nexec setpriv --bounding-set=-dac_override,-dac_read_search ${programOf('ours')}\n`);
    await lab.run('chmod', ['755', limited]);
    return startDaemon('ours', { lab, program: limited });
  }

  before(function () {
    skipIf(this, missingDaemon('ours'));
  });
  afterEach(async () => {
    await daemon.stop();
    await daemon.lab.close();
  });

  it('says that it does not see what the daemon sees', async () => {
    const lab = await openLab();
    daemon = await startLimited(lab);
    const file = join(lab.directory, 'file');
    writeFileSync(file, '');
    const { stdout } = await lab.run(program, ['why', file]);
    assert.match(stdout, /The daemon has fewer capabilities than this tool, and may be denied access\.$/m);
    assert.doesNotMatch(stdout, /mount namespace/);
    const elsewhere = await lab.run('unshare', ['--mount', program, 'why', file]);
    assert.match(elsewhere.stdout, /The daemon is in another mount namespace than this tool/);
    const who = await lab.run('unshare', ['--mount', program, 'who', file]);
    assert.match(who.stdout, /^No lock on .*\nThe daemon is in another mount namespace than this tool/m);
  });

  it('and refusals say so where the daemon is denied access: by path and errno, and not that the file is busy', async () => {
    const lab = await openLab();
    daemon = await startLimited(lab);
    const theirs = join(lab.directory, 'theirs');
    mkdirSync(theirs, { mode: 0o700 });
    const image = join(theirs, 'disk.img');
    writeFileSync(image, '');
    chownSync(theirs, 65534, 65534);
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: 5_000_000, name: 'guest' }));
    const refused = await peer.ask(lock.acquire('', image));
    assert.equal(refused?.message, `Unable to open resource ${image}: Permission denied`);
    assert.notEqual(refused.code, 87, 'it is not busy');
    assert.match((await lab.run(program, ['refusals'])).stdout, /guest \(pid 5000000\) .*Permission denied$/m);
    assert.match((await lab.run(program, ['why', image])).stdout, /may be denied access\.$/m);
    peer.close();
  });

  it('says nothing where both see the same', async () => {
    daemon = await startDaemon('ours', { lab: await openLab() });
    const file = join(daemon.lab.directory, 'file');
    writeFileSync(file, '');
    const { stdout } = await daemon.lab.run(program, ['why', file]);
    assert.match(stdout, /^It would be granted: no lock on \S+ is in the way\.$/m);
    assert.doesNotMatch(stdout, /daemon/);
  });
});

/** Registers pid 1, which is itself in there, through a connection that it keeps, for another owner: number 2. */
const INNER = `import socket, struct, sys, time
def text(value):
    return struct.pack('>I', len(value)) + value + b'\\0' * (-len(value) % 4)
def call(procedure, serial, body):
    head = struct.pack('>IIIIII', 0xEA7BEEF, 1, procedure, 0, serial, 0)
    connection.sendall(struct.pack('>I', len(head) + len(body) + 4) + head + body)
    size = struct.unpack('>I', connection.recv(4))[0] - 4
    reply = connection.recv(size)
    if struct.unpack('>I', reply[20:24])[0] != 0: raise SystemExit(reply)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
call(1, 1, b'\\0' * 16 + text(b'inner') + struct.pack('>III', 5, 2, 0))
call(6, 2, text(b'') + text(sys.argv[2].encode()) + struct.pack('>I', 0))
print('acquired', flush=True)
time.sleep(100)
`;
