import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager, type ManagerOptions } from '../../../src/lab/manager.ts';
import { executeAgain, eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { installRoot } from '../../../src/posix/root.ts';
import { readLocks } from '../../../src/proc/locks.ts';

/** No process has these pids, so their locks end by a release alone. */
const OWNER = { pid: 4_194_305 };
const RIVAL = { pid: 4_194_306 };

describe('a daemon that is killed under a service manager with a descriptor store', function () {
  this.timeout(60_000);
  let directory: string;
  let manager: ServiceManager;
  let pid: number;
  const peers: Peer[] = [];
  const children: ChildProcess[] = [];

  async function begin(options: ManagerOptions = {}): Promise<void> {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { env: { FDSTORE: '4096' }, ...options });
    ({ pid = 0 } = await manager.next('ready'));
  }
  async function kill(): Promise<void> {
    await rest();
    ({ pid } = await manager.kill(pid));
  }
  /** A client may have a reply before the daemon clears the call's mark. The daemon has cleared it once it answers another client. */
  async function rest(): Promise<void> {
    const probe = await client();
    await probe.ask(lock.restrict());
    probe.close();
  }
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.close();
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  async function client(owner?: typeof OWNER): Promise<Peer> {
    const peer = await manager.connect();
    peers.push(peer);
    if (owner !== undefined) await peer.must(lock.register(owner));
    return peer;
  }
  const at = (name: string): string => join(directory, name);
  const isRefused = async (peer: Peer, name: string, flags = autocreate): Promise<boolean> =>
    ((await peer.ask(lock.acquire('', at(name), flags)))?.message ?? '').includes('is locked');
  /** The kind of a file's lock in /proc/locks: `OFDLCK` or `POSIX`. */
  const kindOf = (name: string): string | undefined => {
    const { ino } = statSync(at(name));
    return readLocks().find(({ inode }) => inode === BigInt(ino))?.kind;
  };

  it('leaves its locks and clients to the next one, several times', async () => {
    await begin();
    const [peer, other] = [await client(OWNER), await client(OWNER)];
    await peer.must(lock.acquire('', at('one'), autocreate));
    for (const each of [peer, other]) await each.must(lock.acquire('', at('two'), shared | autocreate));
    await peer.must(lock.newLockspace(at('space')));
    await other.must(lock.restrict());
    const before = await manager.stored();
    for (let turn = 0; turn < 3; turn++) {
      await kill();
      const rival = await client(RIVAL);
      assert(await isRefused(rival, 'one'));
      assert(await isRefused(rival, 'two'));
      assert.match((await other.ask(lock.release('', at('two'))))?.message ?? '', /restricted/);
      assert.match((await peer.ask(lock.newLockspace(at('space'))))?.message ?? '', /already exists/);
      rival.close();
    }
    await eventually('the store has what it had', async () => (await manager.stored()).length === before.length);
    assert.equal(kindOf('one'), 'OFDLCK');
    await peer.must(lock.release('', at('one')));
    const rival = await client(RIVAL);
    await rival.must(lock.acquire('', at('one'), autocreate));
    await rival.must(lock.release('', at('one')));
    assert.throws(() => statSync(at('one')), /ENOENT/);
    assert.match(manager.log, /, died, after 2 others: taking over 2 locks/);
    await eventually('the gap is reported', () => /No client was served for \d+ ms after the former/.test(manager.log));
  });

  it('takes over 900 clients and as many locks', async () => {
    await begin();
    const all: Peer[] = [];
    for (let index = 0; index < 900; index++) {
      const peer = await client({ pid: 4_200_000 + index });
      await peer.must(lock.acquire('', at(`f${index}`), autocreate));
      all.push(peer);
    }
    await eventually('all is stored', async () => (await manager.stored()).length >= 1800);
    await kill();
    await Promise.all(all.map(async (peer, index) => peer.must(lock.release('', at(`f${index}`)))));
  });

  it('closes a connection with a call under way, and ends no owner for it', async () => {
    await begin();
    const owner = await ownerProcess('half');
    const peer = await client();
    // The daemon has read half of a message, and has not answered.
    peer.send(encode({ procedure: 1 }).subarray(0, 10));
    const idle = await client(RIVAL);
    await kill();
    assert.equal((await peer.drain()).length, 0);
    assert(await isRefused(idle, 'half'));
    assert.equal(owner.exitCode ?? owner.signalCode, null);
    owner.kill('SIGKILL');
    await eventually('the lock is free', async () => !(await isRefused(idle, 'half')));
  });

  it('notices at once that an owner ended while no daemon served', async () => {
    await begin();
    const owner = await ownerProcess('mine');
    const rival = await client(RIVAL);
    assert(await isRefused(rival, 'mine'));
    await rest();
    await manager.tell('restart no');
    process.kill(pid, 'SIGKILL');
    await manager.next('ended');
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    await manager.tell('restart yes');
    ({ pid = 0 } = await manager.next('ready', 20_000));
    await eventually('the lock is free', async () => !(await isRefused(rival, 'mine')), 2000);
  });

  it('goes on to end an owner whose end had begun', async () => {
    await begin();
    // The owner closes its connection, and ignores SIGTERM.
    const owner = await ownerProcess('stubborn', 'hang up');
    const rival = await client(RIVAL);
    owner.stdin?.write('\n');
    await eventually('its end has begun', async () => (await manager.stored()).some((name) => name.startsWith('P')));
    await kill();
    assert.equal(owner.exitCode ?? owner.signalCode, null);
    await once(owner, 'exit');
    assert.equal(owner.signalCode, 'SIGKILL');
    await eventually('the lock is free', async () => !(await isRefused(rival, 'stubborn')));
  });

  it('leaves its state also after it has executed itself again', async () => {
    await begin();
    const peer = await client(OWNER);
    await peer.must(lock.acquire('', at('one'), autocreate));
    const before = await manager.stored();
    await executeAgain(pid);
    await manager.next('ready');
    await peer.must(lock.acquire('', at('two'), autocreate));
    await kill();
    const rival = await client(RIVAL);
    for (const name of ['one', 'two']) {
      assert(await isRefused(rival, name));
      await peer.must(lock.release('', at(name)));
    }
    peer.close();
    rival.close();
    await eventually('nothing more is stored than before', async () => (await manager.stored()).length < before.length);
    await executeAgain(pid);
    await manager.next('ready');
    await (await client(RIVAL)).must(lock.acquire('', at('one'), autocreate));
  });

  it('with a damaged record leaves nothing to the next one, which logs so and starts without state', async () => {
    await begin();
    const peer = await client(OWNER);
    await peer.must(lock.acquire('', at('one'), autocreate));
    // In the first entry of either half.
    await manager.tell(`damage R ${256 + 4 * 32_768 * 4 + 20} 3`);
    await manager.tell(`damage R ${256 + 4 * 32_768 * 4 + 512 * 1024 + 20} 3`);
    await kill();
    assert.match(manager.log, /The state record cannot be used, and all locks are lost: its entry at byte 0/);
    const rival = await client(RIVAL);
    await rival.must(lock.acquire('', at('one'), autocreate));
    await eventually('what it had is gone from the store', async () => {
      const names = await manager.stored();
      return names.filter((name) => name.startsWith('F')).length === 1;
    });
    assert.equal((await peer.drain()).length, 0);
  });

  it('serves while the manager does not read, and stores all descriptors when it does again', async () => {
    await begin();
    const peer = await client(OWNER);
    await manager.tell('listen no');
    for (let index = 0; index < 600; index++) await peer.must(lock.acquire('', at(`f${index}`), autocreate));
    await manager.tell('listen yes');
    await eventually(
      'all is stored',
      async () => (await manager.stored()).filter((name) => name.startsWith('F')).length === 600,
    );
    await kill();
    const rival = await client(RIVAL);
    assert(await isRefused(rival, 'f0'));
    assert(await isRefused(rival, 'f599'));
  });

  it('logs that the store is full, and stores again the descriptors that the manager lost', async () => {
    await begin({ limit: 6 });
    const peer = await client(OWNER);
    for (let index = 0; index < 6; index++) await peer.must(lock.acquire('', at(`f${index}`), autocreate));
    await eventually('the log says it', () => manager.log.includes('the service manager keeps 6, with a limit of 6'));
    await manager.tell('limit 100');
    await peer.must(lock.acquire('', at('more'), autocreate));
    await eventually(
      'all is stored',
      async () => (await manager.stored()).filter((name) => name.startsWith('F')).length === 7,
      20_000,
    );
    assert.equal(kindOf('more'), 'OFDLCK');
  });

  it('asks the manager whether there is a store, and then changes the kind of its locks', async () => {
    await begin({ env: {} });
    const peer = await client(OWNER);
    await peer.must(lock.acquire('', at('early'), autocreate));
    await eventually('it is stored', async () => (await manager.stored()).some((name) => name.startsWith('F')));
    assert.equal(kindOf('early'), 'OFDLCK');
    await kill();
    assert(await isRefused(await client(RIVAL), 'early'));
  });

  it('has POSIX locks where there is no store', async () => {
    await begin({ env: {}, limit: 0 });
    const peer = await client(OWNER);
    await peer.must(lock.acquire('', at('one'), autocreate));
    assert.equal(kindOf('one'), 'POSIX');
    assert.deepEqual(await manager.stored(), []);
  });

  it('empties the store for a release that knows no store', async () => {
    const programs = mkdtempSync(join(tmpdir(), 'virtlockd-programs-'));
    try {
      const real = join(installRoot, 'bin/virtlockd');
      const program = join(programs, 'virtlockd');
      symlinkSync(real, program);
      await begin({ program });
      const [peer, other] = [await client(OWNER), await client(OWNER)];
      for (let index = 0; index < 50; index++) await peer.must(lock.acquire('', at(`f${index}`), autocreate));
      await other.must(lock.acquire('', at('both'), shared | autocreate));
      const before = (await manager.stored()).length;
      rmSync(program);
      const withoutKinds = `sed 's/,"locks":[[][^]]*]//'`;
      const script = `case $1 in --check-state) ${real} "$@" | ${withoutKinds};; *) exec ${real} "$@";; esac`;
      writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      await executeAgain(pid);
      assert.equal(await manager.removed(), before);
      // The successor is in fact the same program, and finds the store.
      await eventually('all is stored again', async () => (await manager.stored()).length === before);
      await eventually('the locks are changed back', () => kindOf('f1') === 'OFDLCK');
      await peer.must(lock.release('', at('f0')));
      await kill();
      assert(await isRefused(await client(RIVAL), 'f1'));
    } finally {
      rmSync(programs, { recursive: true, force: true });
    }
  });

  it('leaves its state to the next one at a SIGTERM that is not from a stop of systemd', async () => {
    await begin();
    const peer = await client(OWNER);
    await peer.must(lock.acquire('', at('one'), autocreate));
    await rest();
    ({ pid } = await manager.kill(pid, 'SIGTERM'));
    assert(await isRefused(await client(RIVAL), 'one'));
    await peer.must(lock.release('', at('one')));
  });

  /** A process that holds a lock through its own connection. Closes the connection at a line of input; ignores SIGTERM if `how` is set. */
  async function ownerProcess(name: string, how = ''): Promise<ChildProcess> {
    const calls = [encode(lock.register({ pid: 0x01020304 })), encode(lock.acquire('', at(name), autocreate))];
    const script = `
import os, signal, socket, struct, sys
if sys.argv[2]: signal.signal(signal.SIGTERM, signal.SIG_IGN)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for call in sys.argv[3:]:
  connection.sendall(bytes.fromhex(call.replace('01020304', '%08x' % os.getpid())))
  length, = struct.unpack('>I', connection.recv(4, socket.MSG_WAITALL))
  connection.recv(length - 4, socket.MSG_WAITALL)
print('ready', flush=True)
sys.stdin.readline()
connection.close()
signal.pause()
`;
    const words = ['-c', script, manager.socket, how, ...calls.map((call) => call.toString('hex'))];
    const child = spawn('/usr/bin/python3', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    await once(child.stdout, 'data');
    return child;
  }
});
