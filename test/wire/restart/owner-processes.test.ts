/** Owners whose process is hard to tell: that of another with its pid, one in another pid namespace, one that nobody has reaped. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { type LockDaemon, programOf, startDaemon } from '../../../src/lab/start.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000;

describe('the process of an owner', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let disk: string;

  before(function () {
    skipIf(this, missingDaemon('ours'));
  });
  afterEach(async () => {
    await daemon.stop();
    await daemon.lab.close();
  });

  async function begin(options?: Parameters<typeof startDaemon>[1]): Promise<void> {
    daemon = await startDaemon('ours', options);
    disk = `${daemon.lab.directory}/disk`;
  }

  async function connect(pid: number): Promise<Peer> {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid, id: 1 }));
    return peer;
  }

  it('is ended also when no descriptor is free to find it, or has its disk on', async () => {
    await begin();
    const guest = Actor.start();
    const others: Promise<Peer>[] = [];
    try {
      await guest.ignoreTerm();
      await guest.open('own', daemon.socket);
      await guest.send('own', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
      await guest.send('own', encode({ ...lock.acquire('', disk, autocreate), serial: 2 }));
      await eventually('the lock is there', () => lockOn(daemon.pid, disk) !== undefined);
      const most = readdirSync(`/proc/${daemon.pid}/fd`).length + 2;
      execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${most}:4096`]);
      await guest.close('own');
      // They take every descriptor, also that of the owner's connection.
      for (let i = 0; i < 8; i++) others.push(daemon.connect());
      await pause(4000);
      assert.ok(guest.gone || existsSync(disk), 'it writes on, and its disk is free');
      execFileSync('prlimit', ['--pid', String(daemon.pid), '--nofile=1024:4096']);
      assert.equal(await guest.ended, 'SIGKILL');
      await eventually('its disk is free', () => !existsSync(disk));
    } finally {
      for (const peer of await Promise.all(others)) peer.close();
      await guest.stop();
    }
  });

  it('is not another one that got the pid, while a child of the owner kept its connection', async () => {
    await begin();
    const family = await Family.make(daemon.socket, disk);
    try {
      await family.bury();
      await family.beginStranger();
      await family.endChild();
      await eventually('the disk of who is gone is free', () => !existsSync(disk));
      assert.equal(await family.strangerLives(), true);
    } finally {
      await family.end();
    }
  });

  it('is gone as soon as it is a zombie', async () => {
    await begin();
    const family = await Family.make(daemon.socket, disk);
    try {
      await family.endChild();
      await eventually('its disk is free', () => !existsSync(disk));
      // By then it would be said to be unkillable.
      await pause(3500);
      assert.doesNotMatch(daemon.log, /owner|kill/i);
    } finally {
      await family.end();
    }
  });

  it('is none when the pid is 0 on both sides: what one connection acquired ends by release, and what others did', async () => {
    const lab = await openLab();
    writeFileSync(
      lab.outside('/run/inner'),
      `#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc ${programOf('ours')}\n`,
    );
    chmodSync(lab.outside('/run/inner'), 0o755);
    await begin({ lab, program: '/run/inner' });
    const [one, two, rival] = [await connect(0), await connect(0), await connect(NOBODY)];
    await one.must(lock.acquire('', disk, autocreate));
    await two.must(lock.acquire('', `${disk}-2`, autocreate));
    one.close();
    await pause(500);
    for (const name of [disk, `${disk}-2`]) {
      assert.equal((await rival.ask(lock.acquire('', name, autocreate)))?.code, 87);
      await two.must(lock.release('', name));
      await rival.must(lock.acquire('', name, autocreate));
    }
  });
});

/** An owner with a lock that has ended and is not reaped yet, and a child of it that has kept its connection. */
class Family {
  private readonly process: ChildProcess;
  private readonly answers: Interface;

  private constructor(child: ChildProcess, answers: Interface) {
    this.process = child;
    this.answers = answers;
  }

  static async make(socket: string, disk: string): Promise<Family> {
    // The pid is in it four bytes long: the owner fills in its own.
    const pid = 0x01020304;
    const calls = [lock.register({ pid }), lock.acquire('', disk, autocreate)].map((call, index) =>
      encode({ ...call, serial: index + 1 }).toString('hex'),
    );
    const script = `
import os, signal, socket, struct, sys
reading, writing = os.pipe()
owner = os.fork()
if owner == 0:
  connection = socket.socket(socket.AF_UNIX)
  connection.connect(sys.argv[1])
  for call in sys.argv[2:]:
    connection.sendall(bytes.fromhex(call.replace('01020304', '%08x' % os.getpid())))
    length, = struct.unpack('>I', connection.recv(4, socket.MSG_WAITALL))
    connection.recv(length - 4, socket.MSG_WAITALL)
  child = os.fork()
  if child == 0: signal.pause()
  os.write(writing, b'%d' % child)
  os._exit(0)
child = int(os.read(reading, 20))
os.waitid(os.P_PID, owner, os.WEXITED | os.WNOWAIT)
print('made', flush=True)
stranger = 0
for line in sys.stdin:
  order, said = line.strip(), 'done'
  if order == 'bury': os.waitpid(owner, 0)
  if order == 'end': os.kill(child, signal.SIGKILL)
  if order == 'stranger':
    while stranger != owner:
      if stranger: os.kill(stranger, signal.SIGKILL); os.waitpid(stranger, 0)
      open('/proc/sys/kernel/ns_last_pid', 'w').write(str(owner - 1))
      stranger = os.fork()
      if stranger == 0: signal.pause()
  if order == 'lives': said = str(os.waitid(os.P_PID, stranger, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None)
  print(said, flush=True)
if stranger: os.kill(stranger, signal.SIGKILL)
`;
    const child = spawn('/usr/bin/python3', ['-c', script, socket, ...calls], { stdio: ['pipe', 'pipe', 'inherit'] });
    const family = new Family(child, createInterface({ input: child.stdout }));
    await once(family.answers, 'line');
    return family;
  }

  /** Reaps the owner: its pid is free. */
  async bury(): Promise<void> {
    await this.order('bury');
  }

  /** An unrelated process gets its pid. */
  async beginStranger(): Promise<void> {
    await this.order('stranger');
  }

  async strangerLives(): Promise<boolean> {
    return (await this.order('lives')) === 'True';
  }

  /** The connection ends with it. */
  async endChild(): Promise<void> {
    await this.order('end');
  }

  async end(): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.stdin?.end();
    await exit;
  }

  private async order(word: string): Promise<string> {
    const answer = once(this.answers, 'line') as Promise<[string]>;
    this.process.stdin?.write(`${word}\n`);
    return (await answer)[0];
  }
}
