/**
 * A real daemon that holds files by OFD locks, with a process that keeps duplicates of their descriptors, as systemd's store does. It has
 * them from a predecessor that leaves it nothing else.
 */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { Daemon } from '../../../src/lab/daemon.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, reexecute } from '../../../src/lab/start.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { autocreate, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { setLock } from '../../../src/posix/record-lock.ts';
import { EMPTY_SERVER } from '../../../src/restart/empty-state.ts';
import { PROOF_WITHOUT_KINDS, replaceProgram } from '../../support/release.ts';
import { skipIf } from '../../support/skip.ts';
import { NOBODY } from './at-path.ts';

/**
 * Locks files, leaves their duplicates with a child, and executes the daemon. The child unlocks a file whose name is written into the
 * FIFO, says so by a file of that name with an ending, and goes on.
 */
const PREDECESSOR = `import fcntl, json, os, socket, struct, sys
program, directory = sys.argv[1:3]
files, state = json.loads(sys.argv[3]), json.loads(sys.argv[4])
lock = lambda fd, kind: fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', kind, 0, 0, 1, 0))
for name, resource in files.items():
    fd = os.open(directory + '/' + name, os.O_RDWR | os.O_CREAT)
    lock(fd, fcntl.F_RDLCK if resource['read'] else fcntl.F_WRLCK)
    os.set_inheritable(fd, True)
    resource['fd'] = fd
    state['defaultLockspace']['resources'].append({
        'name': directory + '/' + name, 'path': directory + '/' + name, 'fd': fd, 'lockHeld': True,
        'flags': resource['flags'], 'owners': [${NOBODY}], 'x-lock': resource['lock']})
os.mkfifo(directory + '/unlock')
if os.fork() == 0:
    os.closerange(0, 3)
    while True:
        with open(directory + '/unlock') as orders:
            for name in orders.read().split():
                lock(files[name]['fd'], fcntl.F_UNLCK)
                open(directory + '/' + name + '.unlocked', 'w').close()
os.makedirs('/run/libvirt', exist_ok=True)
for name, path in (('virtlockd', 'virtlockd-sock'), ('admin', 'virtlockd-admin-sock')):
    s = socket.socket(socket.AF_UNIX)
    s.bind('/run/libvirt/' + path)
    s.listen(5)
    os.set_inheritable(s.fileno(), True)
    state['daemon']['servers'][name]['services'] = [{'auth': 0, 'readonly': False, 'nrequests_client_max': 1, 'socks': [
        {'fd': s.detach(), 'errfd': -1, 'pid': 0, 'isClient': False, 'unlinkUNIX': True}]}]
state['magic'] = str(os.getpid())
with open('/run/virtlockd-restart-exec.json', 'w') as file:
    json.dump(state, file)
os.chmod('/run/virtlockd-restart-exec.json', 0o600)
os.execv(program, [program])
`;

interface File {
  readonly lock?: 'ofd' | 'ofd-degraded';
  readonly flags?: number;
  readonly read?: boolean;
}

describe('locks of open files', function () {
  this.timeout(60_000);
  let lab: Lab;
  let daemon: LockDaemon;
  let owner: Peer;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
  });
  beforeEach(async () => {
    lab = await openLab();
    displace(lab, programOf('ours'));
  });
  afterEach(async () => {
    await (daemon as LockDaemon | undefined)?.stop('SIGKILL');
    await (lab as Lab | undefined)?.close();
  });

  const at = (name: string): string => join(lab.directory, name);

  async function begin(files: Readonly<Record<string, File>>): Promise<void> {
    const described = Object.fromEntries(
      Object.entries(files).map(([name, { lock = 'ofd', flags = 0, read = flags !== 0 }]) => [
        name,
        { lock, flags, read },
      ]),
    );
    const state = {
      daemon: { servers: { admin: EMPTY_SERVER, virtlockd: EMPTY_SERVER } },
      defaultLockspace: { resources: [] },
      lockspaces: [],
    };
    const words = ['-c', PREDECESSOR, PROGRAM, lab.directory, JSON.stringify(described), JSON.stringify(state)];
    daemon = Daemon.launch(lab, ['/usr/bin/python3', ...words]);
    await daemon.accepts('the daemon');
    owner = await daemon.connect();
    await owner.must(lock.register({ pid: NOBODY, name: 'owner' }));
  }

  /** The lock of the daemon on a file, as the kernel has it. */
  function lockOn(name: string): string | undefined {
    const { ino } = statSync(at(name));
    const found = daemon.locks().find(({ inode }) => inode === ino);
    return found && `${found.kind} ${found.access} ${found.start} ${found.end}`;
  }

  /** Whether nobody keeps this process from locking the file. */
  function isFree(name: string): boolean {
    const fd = posix.openInode(at(name), 2);
    const status = setLock('ofd', fd, LockType.WRITE);
    posix.close(fd);
    return status === 0;
  }

  async function check(): Promise<{ code: number | null; stdout: string }> {
    return lab.run(join(checkout, 'bin/virt-lockctl'), ['check']);
  }

  it('live over a restart, and go with the release though duplicates are elsewhere', async () => {
    await begin({ exclusive: {}, shared: { flags: shared } });
    for (let round = 0; round < 2; round++) {
      assert.deepEqual(
        ['exclusive', 'shared'].map((name) => lockOn(name)),
        ['OFDLCK WRITE 0 0', 'OFDLCK READ 0 0'],
      );
      assert.equal((await owner.ask(lock.acquire('', at('exclusive'))))?.code, 87);
      await reexecute(daemon);
    }
    for (const name of ['exclusive', 'shared']) {
      assert.ok(!isFree(name));
      await owner.must(lock.release('', at(name)));
      assert.ok(isFree(name));
    }
    await owner.must(lock.acquire('', at('exclusive')));
    assert.match(lockOn('exclusive') ?? '', /WRITE 0 0$/);
  });

  it('unlink what was made for them, while they are held', async () => {
    await begin({ exclusive: { flags: autocreate, read: false } });
    await owner.must(lock.release('', at('exclusive')));
    assert.ok(!existsSync(at('exclusive')));
  });

  it('outlive a daemon that is killed', async () => {
    await begin({ exclusive: {} });
    await daemon.stop('SIGKILL');
    assert.ok(!isFree('exclusive'));
  });

  it('are seen by virt-lockctl check, which finds one that is missing, and one that is not whole', async () => {
    await begin({ exclusive: {}, shared: { flags: shared }, degraded: { lock: 'ofd-degraded', read: true } });
    const rival = posix.openInode(at('degraded'), 2);
    assert.equal(setLock('ofd', rival, LockType.READ), 0);
    const known = await check();
    assert.equal(known.code, 1);
    assert.match(known.stdout, /degraded: the kernel has only a read lock of the daemon: .*\n3 locks, 1 error, /);
    assert.doesNotMatch(known.stdout, /\/exclusive: the kernel|\/shared: the kernel/);
    for (const name of ['exclusive', 'shared']) {
      // Whoever keeps a duplicate can do it.
      writeFileSync(at('unlock'), `${name}\n`);
      await eventually('the keeper has unlocked it', () => existsSync(at(`${name}.unlocked`)));
    }
    const { stdout } = await check();
    assert.match(stdout, /\/exclusive: the kernel has no write lock of the daemon/);
    assert.match(stdout, /\/shared: the kernel has no read lock of the daemon/);
    posix.close(rival);
  });

  /** What they have become when the next program has them. */
  const handedOver = async (): Promise<void> => {
    assert.deepEqual(
      ['exclusive', 'shared'].map((name) => lockOn(name)),
      ['POSIX WRITE 0 0', 'POSIX READ 0 0'],
    );
    for (const name of ['exclusive', 'shared']) {
      assert.ok(!isFree(name));
      await owner.must(lock.release('', at(name)));
      assert.ok(isFree(name));
    }
  };

  it('become POSIX locks for a C daemon, which frees them with its release', async () => {
    await begin({ exclusive: {}, shared: { flags: shared } });
    lab.install(C_PROGRAM);
    await reexecute(daemon);
    await handedOver();
  });

  it('become POSIX locks for a release that does not say that it knows others', async () => {
    await begin({ exclusive: {}, shared: { flags: shared } });
    replaceProgram(lab.outside(PROGRAM), PROOF_WITHOUT_KINDS);
    await reexecute(daemon);
    await handedOver();
  });

  it('are not handed to a C daemon while one is not whole', async () => {
    await begin({ exclusive: {}, degraded: { lock: 'ofd-degraded', read: true }, shared: { flags: shared } });
    const rival = posix.openInode(at('degraded'), 2);
    assert.equal(setLock('ofd', rival, LockType.READ), 0);
    lab.install(C_PROGRAM);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('Unable to re-execute'));
    assert.match(daemon.log, /Unable to re-execute, .*degraded' should be exclusive, and another process shares it/);
    posix.close(rival);
    await reexecute(daemon);
    assert.equal(lockOn('degraded'), 'POSIX WRITE 0 0');
  });
});
