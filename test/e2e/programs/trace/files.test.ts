/** The same conversation from three sources: the proxy, strace, and a pcap file. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LockClient } from '../../../../src/client/index.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { makeImage } from '../../../../src/lab/guest.ts';
import { Libvirtd } from '../../../../src/lab/libvirtd.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGuests, missingStrace } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { encode, lock } from '../../../../src/lab/wire.ts';
import { type Line, messagesIn, missingTrace, program, Tracer } from '../../../support/tracer.ts';

/** Decodes a file. @throws Error when virtlockd-trace does not end as expected */
function decode(option: '--strace' | '--pcap', file: string, status = 0): Line[] {
  const done = spawnSync(program, [option, file, '--json'], { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(done.status, status, done.stderr);
  return done.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** The messages of each connection, without peers and times. */
function talk(lines: readonly Line[]): string[] {
  const byConnection = new Map<number, unknown[]>();
  for (const { connection, from, form, name, serial, length, arguments: args, result, error } of messagesIn(lines)) {
    const said = byConnection.get(connection) ?? [];
    byConnection.set(connection, said);
    said.push([from, form, name, serial, length, args, result, error]);
  }
  return [...byConnection.values()].map((said) => JSON.stringify(said)).sort();
}

/** strace at work on a process; ends with it, or with the test. */
async function strace(pid: number, file: string, ...options: readonly string[]): Promise<() => Promise<void>> {
  const args = ['-f', '-e', 'trace=network,read,write,close', '-s', '65536', ...options, '-o', file, '-p', String(pid)];
  const child = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  await once(child.stderr, 'data');
  return async () => {
    const ended = once(child, 'exit');
    child.kill('SIGINT');
    await ended;
  };
}

describe('virtlockd-trace reads what strace saw', function () {
  this.timeout(120_000);
  let daemon: LockDaemon;
  let directory: string;

  before(async function () {
    skipIf(this, missingTrace(), missingStrace(), missingDaemon('9.0.0'), missingGuests('9.0.0'));
    daemon = await startDaemon('9.0.0');
    ({ directory } = daemon.lab);
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('of the daemon and of a real libvirtd, and it is what passed through the proxy', async () => {
    const libvirtd = new Libvirtd(daemon.lab);
    await libvirtd.start();
    // Before the first guest libvirtd probes QEMU, which takes long under strace.
    await libvirtd.run({ name: 'first' });
    await libvirtd.must('destroy', 'first');
    const tracer = await Tracer.start('--interpose', daemon.socket, '--write-pcap', join(directory, 'own.pcap'));
    const stops: (() => Promise<void>)[] = [];
    try {
      stops.push(await strace(daemon.pid, join(directory, 'daemon'), '-ttt', '-xx'));
      // Not QEMU: the child has made its calls by then, and strace would log every turn of the virtual processor.
      stops.push(await strace(libvirtd.pid, join(directory, 'libvirtd'), '-tt', '--detach-on=execve'));
      const [plain, shared] = ['plain', 'shared'].map((name) => makeImage(directory, name));
      assert.ok(plain !== undefined && shared !== undefined);
      const disks = [{ image: plain }, { image: shared, access: 'shareable' }] as const;
      await libvirtd.run({ name: 'guest', disks });
      await libvirtd.must('suspend', 'guest');
      await libvirtd.must('resume', 'guest');
      await libvirtd.must('destroy', 'guest');
      await tracer.until('QEMU itself to go', (lines) => {
        const opened = lines.filter((line) => line.kind === 'open').length;
        return opened >= 4 && lines.filter((line) => line.kind === 'close').length === opened;
      });
    } finally {
      for (const stop of stops) await stop();
      await libvirtd.stop();
      await tracer.stop();
    }
    const passed = talk(tracer.lines);
    assert.ok(passed.length >= 4);
    assert.ok(passed.some((said) => said.includes('"lock.restrict"')));
    assert.ok(passed.some((said) => said.includes(`"name":${JSON.stringify(shared(directory))},"flags":1`)));
    assert.deepEqual(talk(decode('--strace', join(directory, 'daemon'))), passed);
    assert.deepEqual(talk(decode('--strace', join(directory, 'libvirtd'))), passed);
    const own = decode('--pcap', join(directory, 'own.pcap'));
    assert.deepEqual(talk(own), passed);
    // The file has all that the proxy showed, with the peers, except for notes that only the proxy can make.
    const withoutNotes = (lines: readonly Line[]): Line[] => lines.filter((line) => line.kind !== 'note');
    const timeless = (lines: readonly Line[]): unknown[] =>
      withoutNotes(lines).map((line) => ({ ...line, time: undefined, tookMicros: undefined }));
    assert.deepEqual(timeless(own), timeless(tracer.lines));
    const programs = new Set(tracer.lines.map(({ peer }) => peer.program));
    assert.ok(
      [...programs].some((name) => /libvirtd|rpc-/.test(name ?? '')),
      [...programs].join(),
    );
  });

  it('with threads whose calls are cut in two, and with strings that strace has cut', () => {
    const text = (bytes: Buffer): string =>
      `"${bytes.toString('latin1').replaceAll(/[^ -~]|["\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`)}"`;
    const call = encode({ ...lock.acquire('', '/a "quoted" file'), serial: 0 });
    const reply = encode({ ...lock.acquire('', ''), type: 1, serial: 0, payload: Buffer.alloc(0) });
    const file = join(directory, 'threads');
    writeFileSync(
      file,
      [
        `101 connect(7, {sa_family=AF_UNIX, sun_path="/run/libvirt/virtlockd-sock"}, 110) = 0`,
        `102 connect(8, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)`,
        `101 sendmsg(7, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=${text(call.subarray(0, 30))}, iov_len=30}, {iov_base=${text(call.subarray(30))}, iov_len=${call.length - 30}}], msg_iovlen=2, msg_controllen=0, msg_flags=0}, MSG_NOSIGNAL) = ${call.length}`,
        `101 read(7,  <unfinished ...>`,
        `102 read(7, "not for us", 10) = 10`,
        `102 write(1, "anything", 8) = 8`,
        `101 <... read resumed>${text(reply)}, 4096) = 28`,
        `101 write(7, ${text(call.subarray(0, 40))}..., ${call.length}) = ${call.length}`,
        `101 +++ exited with 0 +++`,
        `103 read(9, ${text(call.subarray(0, 4))}, 4) = 4`,
        `103 read(9, ${text(call.subarray(4))}, 100) = ${call.length - 4}`,
        '',
      ].join('\n'),
    );
    const lines = decode('--strace', file);
    const [first, second, cut, attached] = messagesIn(lines);
    assert.deepEqual(first?.arguments, { path: '', name: '/a "quoted" file', flags: 0 });
    assert.deepEqual([second?.from, second?.form, second?.connection], ['daemon', 'reply', 1]);
    assert.match(
      lines.find((line) => line.kind === 'note')?.text ?? '',
      new RegExp(`strace has cut off ${call.length - 40} bytes`),
    );
    assert.equal(cut?.length, call.length);
    // A daemon that strace was attached to: it reads what a client calls.
    assert.deepEqual([attached?.connection, attached?.from, attached?.name], [2, 'client', 'lock.acquireResource']);
    assert.equal(lines[0]?.time, null);
  });
});

const shared = (directory: string): string => join(directory, 'shared');

/** Packets of a TCP connection between two ports of 127.0.0.1 or ::1, with the header of the link. */
function tcpPacket(linkType: number, fromClient: boolean, sequence: number, flags: number, bytes: Buffer): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(fromClient ? 4000 : 16514, 0);
  tcp.writeUInt16BE(fromClient ? 16514 : 4000, 2);
  tcp.writeUInt32BE(sequence >>> 0, 4);
  tcp[12] = 5 << 4;
  tcp[13] = flags;
  const isV6 = linkType === 101;
  const ip = Buffer.alloc(isV6 ? 40 : 20);
  if (isV6) {
    ip[0] = 6 << 4;
    ip.writeUInt16BE(20 + bytes.length, 4);
    ip[6] = 6;
  } else {
    ip[0] = 0x45;
    ip.writeUInt16BE(40 + bytes.length, 2);
    ip[9] = 6;
  }
  const link = Buffer.alloc(linkType === 1 ? 14 : linkType === 113 ? 16 : 0);
  if (linkType === 1) link.writeUInt16BE(0x0800, 12);
  // Ethernet frames are padded.
  return Buffer.concat([link, ip, tcp, bytes, Buffer.alloc(linkType === 1 ? 6 : 0)]);
}

function pcap(linkType: number, packets: readonly Buffer[], isBig: boolean): Buffer {
  const words = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [index, value] of values.entries()) {
      if (isBig) bytes.writeUInt32BE(value, 4 * index);
      else bytes.writeUInt32LE(value, 4 * index);
    }
    return bytes;
  };
  const version = isBig ? 0x00020004 : 0x00040002;
  const records = packets.map((packet, index) =>
    Buffer.concat([words(1_700_000_000, index, packet.length, packet.length), packet]),
  );
  return Buffer.concat([words(0xa1b2c3d4, version, 0, 0, 65535, linkType), ...records]);
}

function pcapng(linkType: number, packets: readonly Buffer[]): Buffer {
  const block = (type: number, body: Buffer): Buffer => {
    const padded = Buffer.concat([body, Buffer.alloc(-body.length & 3)]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32LE(type, 0);
    frame.writeUInt32LE(12 + padded.length, 4);
    return Buffer.concat([frame, padded, frame.subarray(4)]);
  };
  const section = Buffer.from('4d3c2b1a01000000ffffffffffffffff', 'hex');
  // With nanoseconds: option 9, of 1 byte.
  const description = Buffer.from([linkType, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
  const enhanced = packets.map((packet, index) => {
    const head = Buffer.alloc(20);
    const nanos = 1_700_000_000_000_000_000n + BigInt(index) * 1000n;
    head.writeUInt32LE(Number(nanos >> 32n), 4);
    head.writeUInt32LE(Number(nanos & 0xffffffffn), 8);
    head.writeUInt32LE(packet.length, 12);
    head.writeUInt32LE(packet.length, 16);
    return block(6, Buffer.concat([head, packet]));
  });
  return Buffer.concat([block(0x0a0d0d0a, section), block(1, description), block(5, Buffer.alloc(8)), ...enhanced]);
}

describe('virtlockd-trace reads pcap files', function () {
  this.timeout(60_000);
  let directory: string;

  before(function () {
    skipIf(this, missingTrace());
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-pcap-'));
  });

  after(() => {
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true });
  });

  const call = encode({ ...lock.acquire('/space', 'name'), serial: 0 });
  const reply = encode({ ...lock.acquire('', ''), type: 1, serial: 0, payload: Buffer.alloc(0) });
  const SYN = 2;
  const ACK = 16;
  const FIN = 17;
  const start = 0xfffffff0;

  /** A conversation with everything that TCP does to it: out of order, twice, overlapping, around 2^32. */
  const conversation = (linkType: number): Buffer[] => {
    const packet = (fromClient: boolean, offset: number, flags: number, bytes: Buffer): Buffer =>
      tcpPacket(linkType, fromClient, start + offset, flags, bytes);
    const none = Buffer.alloc(0);
    return [
      packet(true, 0, SYN, none),
      packet(false, 0, SYN | ACK, none),
      packet(true, 1, ACK, call.subarray(0, 10)),
      packet(true, 21, ACK, call.subarray(20)),
      packet(true, 1, ACK, call.subarray(0, 10)),
      packet(true, 6, ACK, call.subarray(5, 25)),
      packet(false, 1, ACK, reply),
      packet(true, 1 + call.length, FIN, none),
      packet(false, 1 + reply.length, FIN, none),
    ];
  };

  for (const [what, linkType, make] of [
    ['pcap, Ethernet', 1, (packets) => pcap(1, packets, false)],
    ['pcap, big-endian, raw IPv6', 101, (packets) => pcap(101, packets, true)],
    ['pcapng with nanoseconds, Linux cooked', 113, (packets) => pcapng(113, packets)],
  ] satisfies [string, number, (packets: Buffer[]) => Buffer][]) {
    it(`of TCP: ${what}`, () => {
      const file = join(directory, `tcp-${linkType}`);
      writeFileSync(file, make(conversation(linkType)));
      const lines = decode('--pcap', file);
      assert.deepEqual(
        lines.map((line) => [line.kind, line.from]),
        [
          ['open', undefined],
          ['message', 'client'],
          ['message', 'daemon'],
          ['end', 'client'],
          ['end', 'daemon'],
          ['close', undefined],
        ],
      );
      assert.deepEqual(lines[1]?.arguments, { path: '/space', name: 'name', flags: 0 });
      assert.equal(lines[2]?.tookMicros, 1);
      assert.equal(lines[0]?.time.slice(0, 19), '2023-11-14T22:13:20');
    });
  }

  it('and says what is missing', () => {
    const file = join(directory, 'gap');
    const packets = conversation(1);
    const gap = packets.filter((_, index) => index !== 5);
    writeFileSync(file, pcap(1, [...gap.slice(0, 3), ...gap.slice(3)], false));
    const lines = decode('--pcap', file);
    assert.match(lines.find((line) => line.kind === 'note')?.text ?? '', /segments are missing/);
    const whole = pcap(1, packets, false);
    writeFileSync(file, whole.subarray(0, whole.length - 3));
    assert.equal(messagesIn(decode('--pcap', file, 1)).length, 2);
  });

  it('that it wrote itself, and nobody else can take for anything else', async function () {
    skipIf(this, missingDaemon('ours'));
    const daemon = await startDaemon('ours');
    const file = join(directory, 'own');
    try {
      const tracer = await Tracer.start('--interpose', daemon.socket, '--write-pcap', file);
      const client = await LockClient.connect(daemon.socket);
      await client.register({ uuid: Buffer.alloc(16, 1), name: 'x'.repeat(65_536), id: 1, pid: 5_000_000 });
      client.close();
      await tracer.until('the end', (lines) => lines.some((line) => line.kind === 'close'));
      await tracer.stop();
      const own = decode('--pcap', file);
      assert.deepEqual(own, tracer.lines);
      assert.equal(readFileSync(file).readUInt32LE(20), 147);
    } finally {
      await daemon.stop();
    }
    await eventually('it is there', () => existsSync(file));
  });
});
