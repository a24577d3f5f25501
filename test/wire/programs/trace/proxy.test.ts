import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { AdminClient, LockClient } from '../../../../src/client/index.ts';
import { client } from '../../../../src/programs/fuzz/client.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { lockOn } from '../../../../src/lab/observe.ts';
import { eventually } from '../../../../src/lab/process.ts';
import type { DaemonKind } from '../../../../src/lab/generation.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { ordinaryUser } from '../../../../src/lab/root.ts';
import { encode, lock, Peer, text, u32 } from '../../../../src/lab/wire.ts';
import { type Line, messagesIn, missingTrace, program, Tracer } from '../../../support/tracer.ts';

for (const kind of ['ours', '9.0.0'] satisfies DaemonKind[]) {
  describe(`virtlockd-trace before virtlockd ${kind}`, function () {
    this.timeout(60_000);
    let daemon: LockDaemon;
    let tracer: Tracer;
    let socket: string;

    before(async function () {
      skipIf(this, missingTrace(), missingDaemon(kind));
      daemon = await startDaemon(kind);
    });

    beforeEach(async () => {
      socket = join(daemon.lab.directory, 'traced');
      tracer = await Tracer.start('--listen', socket, '--connect', daemon.socket);
    });

    afterEach(async () => {
      await (tracer as Tracer | undefined)?.stop();
      if ((socket as string | undefined) !== undefined) assert.equal(existsSync(socket), false);
    });

    after(async () => {
      await (daemon as LockDaemon | undefined)?.stop();
    });

    it('shows calls, replies and errors, and who makes them', async () => {
      const image = join(daemon.lab.directory, 'dísk.img');
      writeFileSync(image, '');
      const guest = await LockClient.connect(socket);
      await guest.register({ uuid: Buffer.alloc(16, 0xab), name: 'guest', id: 7, pid: 5_000_000 });
      await guest.acquire('', image, { shared: true });
      assert.equal(lockOn(daemon.pid, image), 'READ 0 0');
      await guest.release('', image);
      await assert.rejects(guest.release('', image));
      guest.close();
      const lines = await tracer.until('the end', (all) => all.some((line) => line.kind === 'close'));
      const messages = messagesIn(lines);
      assert.deepEqual(
        messages.map(({ from, form, name, serial }) => [from, form, name, serial]),
        ['register', 'acquireResource', 'releaseResource', 'releaseResource'].flatMap((name, serial) => [
          ['client', 'call', `lock.${name}`, serial],
          ['daemon', 'reply', `lock.${name}`, serial],
        ]),
      );
      assert.deepEqual(messages[0]?.arguments, {
        owner: { uuid: 'abababab-abab-abab-abab-abababababab', name: 'guest', id: 7, pid: 5_000_000 },
        flags: 0,
      });
      assert.deepEqual(messages[2]?.arguments, { path: '', name: image, flags: 1 });
      assert.equal(messages[3]?.result, null);
      const { error } = messages[7] ?? {};
      assert.deepEqual(
        [error?.code, error?.domain, error?.message],
        [87, 51, `resource busy: Lockspace resource '${image}' is not locked`],
      );
      for (const { peer, time, tookMicros, from } of messages) {
        assert.equal(peer.pid, process.pid);
        assert.deepEqual([peer.uid, peer.gid], [0, 0]);
        assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
        assert.equal(tookMicros !== undefined && tookMicros > 0, from === 'daemon');
      }
      assert.equal(lines[0]?.kind, 'open');
    });

    it('passes on nonsense, and shows it in hex with where it broke', async () => {
      const peer = await Peer.connect(socket);
      peer.send(encode({ ...lock.register({ pid: 1 }), serial: 1, payload: Buffer.from('000102', 'hex') }));
      assert.equal((await peer.receive())?.status, 1);
      peer.send(
        encode({ program: 0x12345678, version: 2, procedure: 9, serial: 2, payload: Buffer.from('beef0000', 'hex') }),
      );
      assert.equal((await peer.receive())?.status, 1);
      peer.send(encode({ ...lock.acquire('/space', 'name'), serial: 3, type: 9 }));
      peer.send(encode({ ...lock.restrict(), serial: 4, payload: Buffer.concat([u32(0), text('more')]) }));
      assert.equal((await peer.receive())?.serial, 4);
      peer.send(Buffer.from('00000003deadbeef', 'hex'));
      assert.equal((await peer.drain()).length, 0);
      const lines = await tracer.until('the end', (all) => all.some((line) => line.kind === 'close'));
      const [short, , unknown, , typed, behind] = messagesIn(lines);
      assert.match(short?.undecoded?.reason ?? '', /^broken at byte 28 of the message, owner\.uuid: 16 bytes wanted/);
      assert.equal(short?.undecoded?.hex, '000102');
      assert.deepEqual([unknown?.name, unknown?.undecoded?.hex], ['0x12345678.v2.9', 'beef0000']);
      assert.deepEqual(
        [typed?.form, typed?.name, typed?.undecoded?.reason],
        ['other', 'lock.acquireResource', 'unknown procedure'],
      );
      assert.match(behind?.undecoded?.reason ?? '', /^8 bytes after/);
      const broken = lines.filter((line) => line.kind === 'undecoded');
      assert.equal(broken.map(({ undecoded }) => undecoded?.hex).join(''), '00000003deadbeef');
      assert.equal(broken[0]?.undecoded?.reason, 'invalid length 3, at byte 0 of a message');
    });

    it('passes on a half-close, and an end in the middle of a message', async () => {
      const half = await Peer.connect(socket);
      half.send(encode({ ...lock.register({ pid: 5_000_000 }), serial: 1 }));
      half.end();
      assert.equal((await half.receive())?.serial, 1);
      assert.equal((await half.drain()).length, 0);
      const cut = await Peer.connect(socket);
      cut.send(encode(lock.restrict()).subarray(0, 11));
      cut.end();
      assert.equal((await cut.drain()).length, 0);
      const lines = await tracer.until('both ends', (all) => all.filter((line) => line.kind === 'close').length === 2);
      const unfinished = lines.find((line) => line.kind === 'undecoded');
      assert.match(unfinished?.undecoded?.reason ?? '', /^the message is cut off: at least 17 bytes/);
      assert.deepEqual(
        lines.filter(({ kind, connection }) => kind === 'end' && connection === 1).map(({ from }) => from),
        ['client', 'daemon'],
      );
    });

    it('takes on the user of its peer, so that the daemon refuses whom it would refuse', async () => {
      const [inside, upstream] = [join(daemon.lab.directory, 'inside'), '/run/libvirt/virtlockd-sock'];
      const running = daemon.lab.spawn(program, ['--listen', inside, '--connect', upstream, '--json']);
      const lines = (): Line[] =>
        running.output
          .split('\n')
          .filter((line) => line.startsWith('{'))
          .map((line) => JSON.parse(line) as Line);
      await eventually('it listens', () => running.output.includes('the daemon sees'));
      const [direct, traced] = [daemon.socket, inside].map((path) => lstatSync(path));
      assert.deepEqual([traced?.uid, traced?.gid, traced?.mode], [direct?.uid, direct?.gid, direct?.mode]);
      // With the modes of the daemon's sockets, no other user could connect.
      for (const path of [inside, daemon.socket]) chmodSync(path, 0o777);
      const probe = `import socket; s = socket.socket(socket.AF_UNIX); s.connect('${inside}'); print(len(s.recv(9)))`;
      const { stdout, stderr } = await daemon.lab.run('python3', ['-c', probe], { ordinary: true });
      assert.equal(stdout, '0\n', stderr);
      await eventually('the end is told', () => lines().some((line) => line.kind === 'close'));
      assert.deepEqual(
        lines().map((line) => line.kind),
        ['open', 'end', 'close'],
      );
      assert.deepEqual([lines()[0]?.peer.uid, lines()[0]?.peer.gid], [ordinaryUser.uid, ordinaryUser.gid]);
      await running.stop('SIGINT');
      assert.equal(existsSync(inside), false);
    });

    it('carries descriptors with the byte that they came with', async () => {
      const fd = client.connect(Buffer.from(socket).toString('latin1'));
      const call = encode({ ...lock.createLockspace('/run/space'), serial: 1 });
      const announcing = encode({
        ...lock.createLockspace('/run/space'),
        type: 4,
        serial: 2,
        payload: Buffer.concat([u32(2), text('/run/space')]),
      });
      const files = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')];
      const reply = Buffer.alloc(28);
      try {
        client.send(fd, Buffer.concat([call, announcing]), [], 1000);
        for (const file of files) client.send(fd, Buffer.alloc(1), [file], 1000);
        for (const serial of [1, 2]) {
          // The proxy needs this thread's machine, but not this thread.
          assert.equal(client.receive(fd, reply, 0, 10_000), 28);
          assert.deepEqual([reply.readUInt32BE(20), reply.readUInt32BE(24)], [serial, 0]);
        }
      } finally {
        client.close(fd);
        for (const file of files) closeSync(file);
      }
      const lines = await tracer.until('the end', (all) => all.some((line) => line.kind === 'close'));
      assert.deepEqual(
        messagesIn(lines)
          .map(({ descriptors }) => descriptors)
          .sort(),
        [0, 0, 0, 2],
      );
      assert.equal(lines.filter((line) => line.kind === 'descriptors').length, 2);
      const reasons = lines.filter((line) => line.kind === 'undecoded').map(({ undecoded }) => undecoded?.reason);
      assert.deepEqual(reasons, ['the byte that carries a descriptor', 'the byte that carries a descriptor']);
    });

    it('says what the daemon makes of an owner that registers itself', async () => {
      const self = await LockClient.connect(socket);
      await self.register({ uuid: Buffer.alloc(16, 1), name: 'self', id: 1, pid: process.pid });
      const lines = await tracer.until('a note', (all) => all.some((line) => line.kind === 'note'));
      assert.match(lines.find((line) => line.kind === 'note')?.text ?? '', /it will not release its locks/);
      self.close();
    });

    it('holds no more than a little for a client that does not read, and loses nothing', async () => {
      const peer = await Peer.connect(socket);
      peer.socket.pause();
      const calls = 5_000;
      const call = encode({ ...lock.release('', 'x'.repeat(1000)), serial: 5 });
      peer.send(Buffer.concat(Array.from({ length: calls }, () => call)));
      // Without a reader, only as many bytes pass as the proxy and the kernel hold.
      let passed = -1;
      await eventually('nothing passes any more', () => {
        const before = passed;
        passed = tracer.lines.length;
        return passed > 100 && passed === before;
      });
      assert.ok(messagesIn(tracer.lines).length < 2 * calls);
      peer.socket.resume();
      for (let replies = 0; replies < calls; replies++) assert.equal((await peer.receive())?.status, 1);
      peer.close();
      const lines = await tracer.until('the end', (all) => all.some((line) => line.kind === 'close'));
      assert.equal(messagesIn(lines).length, 2 * calls);
    });

    it('keeps no client waiting for who reads the trace, who still gets all of it', async () => {
      const peer = await Peer.connect(socket);
      tracer.child.stdout?.pause();
      const calls = 5_000;
      const call = encode({ ...lock.release('', 'x'.repeat(1000)), serial: 5 });
      peer.send(Buffer.concat(Array.from({ length: calls }, () => call)));
      for (let replies = 0; replies < calls; replies++) assert.equal((await peer.receive())?.status, 1);
      peer.close();
      assert.ok(messagesIn(tracer.lines).length < 2 * calls);
      tracer.child.stdout?.resume();
      const lines = await tracer.until('the end', (all) => all.some((line) => line.kind === 'close'));
      assert.equal(messagesIn(lines).length, 2 * calls);
    });
  });
}

describe('virtlockd-trace in the place of a socket', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;

  before(function () {
    skipIf(this, missingTrace(), missingDaemon('ours'), missingDaemon('9.0.0'));
  });

  afterEach(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const inode = (path: string): number => lstatSync(path).ino;
  const names = (lines: readonly Line[]): (string | undefined)[] => messagesIn(lines).map(({ name }) => name);

  it('shows both sockets, and gives them back', async () => {
    daemon = await startDaemon('ours');
    const sockets = [daemon.socket, daemon.adminSocket];
    const before = sockets.map(inode);
    const tracer = await Tracer.start('--interpose', daemon.socket, '--interpose', daemon.adminSocket);
    const admin = await AdminClient.connect(daemon.adminSocket);
    assert.deepEqual((await admin.servers()).sort(), ['admin', 'virtlockd']);
    await admin.close();
    const client = await LockClient.connect(daemon.socket);
    await client.createLockspace(join(daemon.lab.directory, 'space'));
    const [open, , list, listed, close] = await tracer
      .until('all', (lines) => names(lines).includes('lock.createLockspace'))
      .then(messagesIn);
    assert.deepEqual([open?.name, list?.name, close?.name], ['admin.open', 'admin.listServers', 'admin.close']);
    assert.equal((listed?.result as { count: number }).count, 2);

    tracer.child.kill('SIGTERM');
    await eventually('the sockets are back', () => sockets.every((path, index) => inode(path) === before[index]));
    await client.register({ uuid: Buffer.alloc(16, 1), name: 'late', id: 1, pid: 5_000_000 });
    assert.match(tracer.errors, /1 connection still passes through/);
    const direct = await LockClient.connect(daemon.socket);
    await direct.createLockspace(join(daemon.lab.directory, 'space'));
    direct.close();
    client.close();
    assert.equal(await tracer.ended, 0);
    assert.ok(names(tracer.lines).includes('lock.register'));
    for (const path of sockets) assert.equal(existsSync(`${path}.untraced`), false);
  });

  it('leaves nothing behind when the daemon ends first, and puts right what a killed one left', async () => {
    daemon = await startDaemon('9.0.0');
    const before = inode(daemon.socket);
    const killed = await Tracer.start('--interpose', daemon.socket);
    killed.child.kill('SIGKILL');
    await killed.ended;
    assert.notEqual(inode(daemon.socket), before);
    const tracer = await Tracer.start('--interpose', daemon.socket);
    const other = await Tracer.start('--interpose', daemon.socket).catch((error: unknown) => error);
    assert.ok(other instanceof Error);
    const client = await LockClient.connect(daemon.socket);
    const lost = new Promise((resolve) => {
      client.onClose(resolve);
    });
    await daemon.process.stop();
    await lost;
    await tracer.stop();
    assert.equal(existsSync(daemon.socket), false);
    assert.equal(existsSync(`${daemon.socket}.untraced`), false);
  });

  it('says that the daemon cannot be reached', async () => {
    daemon = await startDaemon('ours');
    const socket = join(daemon.lab.directory, 'traced');
    const upstream = join(daemon.lab.directory, 'upstream');
    symlinkSync(daemon.socket, upstream);
    const tracer = await Tracer.start('--listen', socket, '--connect', upstream);
    unlinkSync(upstream);
    const peer = await Peer.connect(socket);
    assert.equal((await peer.drain()).length, 0);
    const lines = await tracer.until('a note', (all) => all.some((line) => line.kind === 'close'));
    assert.match(lines[1]?.text ?? '', /cannot be reached at .*: no such file or directory/);
    await tracer.stop();
  });

  it('explains a wrong command line and what it cannot do', async () => {
    daemon = await startDaemon('ours');
    const status = async (...args: readonly string[]): Promise<[number | null, string]> => {
      const { code, stdout, stderr } = await daemon.lab.run(program, args);
      return [code, stdout + stderr];
    };
    const directory = join(daemon.lab.directory, 'no socket');
    mkdirSync(directory);
    for (const [expected, pattern, ...args] of [
      [0, /--write-pcap/, '--help'],
      [0, /^\d+\.\d+\.\d+\n$/, '--version'],
      [2, /give one of --interpose/],
      [2, /--listen needs --connect/, '--listen', '/x'],
      [2, /unknown option/, '--nonsense'],
      [2, /cannot be used with/, '--strace', '/x', '--pcap', '/y'],
      [3, /is not a socket/, '--interpose', directory],
      [3, /no such file/, '--strace', '/nowhere'],
      [1, /no line is output of strace/, '--strace', '/etc/passwd'],
      [1, /neither pcap nor pcapng/, '--pcap', '/etc/passwd'],
      [3, /cannot listen for \/nowhere/, '--listen', join(directory, 'a'), '--connect', '/nowhere'],
      [
        3,
        /cannot listen at .*name too long/,
        '--listen',
        `/${'a'.repeat(108)}`,
        '--connect',
        '/run/libvirt/virtlockd-sock',
      ],
    ] as const) {
      const [code, said] = await status(...args);
      assert.equal(code, expected, `${args.join(' ')}: ${said}`);
      assert.match(said, pattern);
    }
  });
});
