import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager } from '../../../src/lab/manager.ts';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';

const OWNER = { pid: 4_194_305 };
const RIVAL = { pid: 4_194_306 };

describe('a store that has not got all', function () {
  this.timeout(30_000);
  let directory: string;
  let manager: ServiceManager;
  const peers: Peer[] = [];

  const children: ChildProcess[] = [];

  /** @param promised how many the daemon believes that there may be */
  const begin = async (limit: number, promised = 4096): Promise<number> => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { limit, env: { FDSTORE: String(promised) } });
    return (await manager.next('ready')).pid ?? 0;
  };
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.close();
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const client = async (owner: typeof OWNER): Promise<Peer> => {
    const peer = await manager.connect();
    peers.push(peer);
    await peer.must(lock.register(owner));
    return peer;
  };
  const isRefused = async (peer: Peer, name: string): Promise<boolean> =>
    ((await peer.ask(lock.acquire('', join(directory, name), autocreate)))?.message ?? '').includes('is locked');

  it('gets the rest when it has room again, though nothing has come in between', async () => {
    const pid = await begin(6);
    const peer = await client(OWNER);
    for (let index = 0; index < 6; index++) await peer.must(lock.acquire('', join(directory, `f${index}`), autocreate));
    await eventually('the log says it', () => manager.log.includes('the service manager keeps 6, with a limit of 6'));
    // It has been sent again, in vain.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await manager.tell('limit 100');
    await eventually(
      'all is stored',
      async () => (await manager.stored()).filter((name) => name.startsWith('F')).length === 6,
      10_000,
    );
    await manager.kill(pid);
    const rival = await client(RIVAL);
    for (let index = 0; index < 6; index++) assert(await isRefused(rival, `f${index}`), String(index));
  });

  it('gets the rest when something has gone from it', async () => {
    await begin(6);
    const peer = await client(OWNER);
    for (let index = 0; index < 6; index++) await peer.must(lock.acquire('', join(directory, `f${index}`), autocreate));
    await eventually('the log says it', () => manager.log.includes('the service manager keeps 6, with a limit of 6'));
    await new Promise((resolve) => setTimeout(resolve, 2000));
    for (const name of ['f0', 'f1']) await peer.must(lock.release('', join(directory, name)));
    await eventually('it is full again', async () => (await manager.stored()).length === 6);
  });

  it('leaves an acquire that may have been answered to its owner, whose connection had no room in it', async () => {
    // The record, two listening sockets, and one more.
    const pid = await begin(4, 4);
    const owner = spawn('sleep', ['1000']);
    children.push(owner);
    const first = await client(RIVAL);
    const peer = await client({ pid: owner.pid ?? 0 });
    first.close();
    await eventually('there is room', async () => (await manager.stored()).length === 3);
    const strace = spawn('strace', ['-p', String(pid), '--trace=sendto', '--inject=sendto:signal=KILL:when=1'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await once(strace.stderr, 'data');
    const acquire = lock.acquire('', join(directory, 'lease'), autocreate);
    await assert.rejects(peer.must(acquire), /closed instead of a reply/);
    await manager.next('started');
    await manager.next('ready');
    const again = await client({ pid: owner.pid ?? 0 });
    await again.must(acquire);
    assert(await isRefused(await client(RIVAL), 'lease'));
    await again.must(lock.release('', join(directory, 'lease')));
  });

  it('has not got the connection of an owner, whose end is seen all the same', async () => {
    const pid = await begin(4);
    const first = await client(RIVAL);
    const owner = await ownerProcess('mine');
    first.close();
    await eventually('there is room', async () => (await manager.stored()).length === 3);
    owner.stdin?.write('\n');
    await once(owner.stdout ?? owner, 'data');
    await manager.kill(pid);
    const rival = await client(RIVAL);
    assert(await isRefused(rival, 'mine'));
    assert.equal(owner.exitCode ?? owner.signalCode, null);
    owner.kill('SIGKILL');
    await eventually('the lock is free', async () => !(await isRefused(rival, 'mine')));
  });

  it('gets the rest before the daemon leaves all to the next', async () => {
    const pid = await begin(4096);
    const peer = await client(OWNER);
    await manager.tell('listen no');
    const count = 600;
    for (let index = 0; index < count; index++)
      await peer.must(lock.acquire('', join(directory, `f${index}`), autocreate));
    process.kill(pid, 'SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 500));
    await manager.tell('listen yes');
    await manager.next('ready');
    const rival = await client(RIVAL);
    for (let index = 0; index < count; index++) assert(await isRefused(rival, `f${index}`), String(index));
    assert(!manager.log.includes('had been lost'));
  });

  it('is told that the daemon serves, however much is taken out of it before', async () => {
    const pid = await begin(4096);
    const made: Peer[] = [];
    for (let index = 0; index < 40; index++) made.push(await client(OWNER));
    await eventually('all is stored', async () => (await manager.stored()).length === 43);
    // Calls under way, so that all are closed.
    for (const peer of made) peer.send(encode({ procedure: 1 }).subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await manager.tell('listen no');
    process.kill(pid, 'SIGKILL');
    await manager.next('started');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await manager.tell('listen yes');
    await manager.next('ready');
    await eventually('all is taken out', async () => (await manager.stored()).length === 3);
  });

  it('is left without what is released, by a restart while the manager does not listen', async () => {
    const pid = await begin(4096);
    const peer = await client(OWNER);
    for (let index = 0; index < 30; index++)
      await peer.must(lock.acquire('', join(directory, `f${index}`), autocreate));
    await eventually('all is stored', async () => (await manager.stored()).length === 34);
    await manager.tell('listen no');
    for (let index = 0; index < 30; index++) await peer.must(lock.release('', join(directory, `f${index}`)));
    process.kill(pid, 'SIGUSR1');
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await manager.tell('listen yes');
    await peer.must(lock.acquire('', join(directory, 'last'), autocreate));
    await eventually('all else is taken out', async () => (await manager.stored()).length === 5);
  });

  /** A process that registers itself, and acquires after a line of input. */
  async function ownerProcess(name: string): Promise<ChildProcess> {
    const calls = [
      encode(lock.register({ pid: 0x01020304 })),
      encode(lock.acquire('', join(directory, name), autocreate)),
    ];
    const script = `
import os, signal, socket, struct, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for call in sys.argv[2:]:
  connection.sendall(bytes.fromhex(call.replace('01020304', '%08x' % os.getpid())))
  length, = struct.unpack('>I', connection.recv(4, socket.MSG_WAITALL))
  connection.recv(length - 4, socket.MSG_WAITALL)
  print('done', flush=True)
  sys.stdin.readline()
signal.pause()
`;
    const words = ['-c', script, manager.socket, ...calls.map((call) => call.toString('hex'))];
    const child = spawn('/usr/bin/python3', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    await once(child.stdout, 'data');
    return child;
  }
});
