/** Log lines arrive where the admin program sends them, in the form in which the C daemon writes them. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { eventually, type Running } from '../../../src/lab/process.ts';
import type { DaemonKind } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import type { Message, Peer } from '../../../src/lab/wire.ts';
import { admin, readSetting } from '../../../src/lab/admin-calls.ts';

/** Receives datagrams at the path in its argument, and prints each in hex. Perl, because Node.js has no such sockets. */
const receiver = `
  use Socket;
  $| = 1;
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
  bind($s, pack_sockaddr_un($ARGV[0])) or die "$ARGV[0]: $!";
  print "ready\\n";
  while (defined recv($s, my $data, 65536, 0)) { print unpack('H*', $data), "\\n" }
`;

/** A real datagram socket inside a lab. */
class DatagramSocket {
  private readonly process: Running;

  private constructor(process: Running) {
    this.process = process;
  }

  static async bind(lab: Lab, path: string): Promise<DatagramSocket> {
    const socket = new DatagramSocket(lab.spawn('perl', ['-e', receiver, path]));
    await eventually(`${path} is bound`, () => {
      assert.equal(socket.process.finished, undefined, socket.process.output);
      return socket.process.output.startsWith('ready\n');
    });
    return socket;
  }

  get received(): Buffer[] {
    return this.process.output
      .split('\n')
      .slice(1, -1)
      .map((line) => Buffer.from(line, 'hex'));
  }

  async close(): Promise<void> {
    await this.process.stop('SIGKILL');
  }
}

/** The parts of a message that do not depend on who wrote it. `where` is there if it is told as function and line. */
interface Entry {
  level: string;
  where: boolean;
  text: string;
}

const TEXT = /^(?<pid>\d+): (?<level>debug|info|warning|error) : (?<where>\w+:\d+ : )?(?<text>[^]*)\n$/;

/** Reads the text of a line behind its time. */
function readText(line: string, daemon: LockDaemon): Entry {
  const { pid, level = '', where, text = '' } = TEXT.exec(line)?.groups ?? {};
  assert.equal(Number(pid), daemon.pid, line);
  return { level, where: where !== undefined, text: withoutPackage(text) };
}

/** The distribution's C daemon adds its package to its version. */
function withoutPackage(text: string): string {
  return text.replace(/, package: .*/, '');
}

/** RFC 3164 as syslog(3) writes it: `<PRI>Mmm dd hh:mm:ss TAG: text`. */
function readSyslog(datagram: Buffer, daemon: LockDaemon): Entry & { priority: number; identifier: string } {
  const match = /^<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) ([^:]*): ([^]*)$/.exec(datagram.toString('latin1'));
  assert.ok(match, datagram.toString('latin1'));
  const [, priority, , identifier = '', rest = ''] = match;
  return { priority: Number(priority), identifier, ...readText(rest, daemon) };
}

/** journald's native protocol: `NAME=value\n`, or `NAME\n`, the length as u64 little-endian, the value, `\n`. */
function readJournal(datagram: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < datagram.length;) {
    const lineEnd = datagram.indexOf('\n', at);
    assert.ok(lineEnd >= 0, 'a field without an end');
    const line = datagram.toString('latin1', at, lineEnd);
    const equals = line.indexOf('=');
    if (equals >= 0) {
      fields[line.slice(0, equals)] = line.slice(equals + 1);
      at = lineEnd + 1;
    } else {
      const start = lineEnd + 1 + 8;
      const end = start + Number(datagram.readBigUInt64LE(lineEnd + 1));
      fields[line] = datagram.toString('latin1', start, end);
      assert.equal(datagram[end], 0x0a);
      at = end + 1;
    }
  }
  return fields;
}

/** `2026-11-22 14:51:06.101+0000: ` and the text. */
function readFileLines(content: string, daemon: LockDaemon): Entry[] {
  const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: /m;
  return content
    .split(/(?=^\d{4}-\d\d-\d\d )/m)
    .filter((line) => line !== '')
    .map((line) => {
      assert.match(line, time);
      return readText(line.replace(time, ''), daemon);
    });
}

/** A name whose look-up fails; the error is logged with its bytes as they are, in no encoding. */
const awkward = Buffer.from('no\xffpe', 'latin1');
const failure = (name: string): string => `Server not found: No server named '${name}'`;

interface Subject {
  readonly daemon: LockDaemon;
  readonly peer: Peer;
}

async function accept(peer: Peer, request: Parameters<Peer['call']>[0]): Promise<Message> {
  const message = await peer.call(request);
  assert.equal(message.status, 0, message.payload.toString('latin1'));
  return message;
}

/** Has the daemon log two errors. */
async function provoke(peer: Peer): Promise<void> {
  assert.ok(await peer.ask(admin.lookupServer('nope')));
  assert.ok(await peer.ask(admin.lookupServer(awkward)));
}

describe('log outputs set by the admin program', function () {
  this.timeout(60_000);
  const subjects: Subject[] = [];
  const labs: Lab[] = [];

  before(async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'));
    for (const kind of ['9.0.0', 'ours'] as const satisfies DaemonKind[]) {
      const lab = await openLab();
      labs.push(lab);
      // A /dev of its own: /dev/log is the machine's otherwise.
      const devices =
        'mount -t tmpfs -o mode=755 tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9';
      assert.equal((await lab.run('sh', ['-c', `${devices} && mkdir -p /run/systemd/journal`])).code, 0);
      const configuration = kind === 'ours' ? { configuration: 'libvirt_version = "9.0.0"\n' } : {};
      const daemon = await startDaemon(kind, { lab, ...configuration });
      subjects.push({ daemon, peer: await daemon.connectAdmin() });
    }
  });

  after(async () => {
    for (const { daemon, peer } of subjects) {
      peer.close();
      await daemon.stop();
    }
    for (const lab of labs) await lab.close();
  });

  /** What both daemons make of the same steps: the C daemon's first. */
  async function compare<T>(steps: (subject: Subject) => Promise<T>): Promise<[T, T]> {
    const [expected, actual] = await Promise.all(subjects.map(steps));
    assert.ok(expected !== undefined && actual !== undefined);
    return [expected, actual];
  }

  it('reach a file', async () => {
    const path = '/run/virtlockd-test.log';
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      await accept(peer, admin.setOutputs(`1:file:${path}`));
      await provoke(peer);
      const entries = readFileLines(readFileSync(daemon.lab.outside(path), 'latin1'), daemon);
      return { entries, mode: statSync(daemon.lab.outside(path)).mode };
    });
    assert.deepEqual(actual, expected);
    assert.equal(expected.entries.length, 4);
  });

  it('reach a file that was renamed, until they are set again', async () => {
    const path = '/run/virtlockd-test.log';
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      const at = daemon.lab.outside(path);
      await accept(peer, admin.setOutputs(`1:file:${path}`));
      renameSync(at, `${at}.1`);
      const before = readFileSync(`${at}.1`, 'latin1').length;
      await provoke(peer);
      assert.equal(existsSync(at), false);
      const moved = readFileLines(readFileSync(`${at}.1`, 'latin1').slice(before), daemon);
      await accept(peer, admin.setOutputs(`1:file:${path}`));
      await provoke(peer);
      return { moved, anew: readFileLines(readFileSync(at, 'latin1'), daemon) };
    });
    assert.deepEqual(actual, expected);
    assert.ok(expected.moved.some(({ text }) => text === failure('nope')));
  });

  it('reach a syslog socket', async () => {
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      // C loses the identifier when one syslog output follows another.
      await accept(peer, admin.setOutputs('1:stderr'));
      const socket = await DatagramSocket.bind(daemon.lab, '/dev/log');
      try {
        await accept(peer, admin.setOutputs('1:syslog:my-locks'));
        await provoke(peer);
        await eventually('four datagrams', () => socket.received.length >= 4);
        return socket.received.map((datagram) => readSyslog(datagram, daemon));
      } finally {
        await socket.close();
      }
    });
    assert.deepEqual(actual, expected);
    const common = { identifier: 'my-locks', level: 'error', where: true, priority: 3 * 8 + 3 };
    assert.deepEqual(actual.slice(2), [
      { ...common, text: failure('nope') },
      { ...common, text: failure(awkward.toString('latin1')) },
    ]);
  });

  it('reach a journald socket', async () => {
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      const socket = await DatagramSocket.bind(daemon.lab, '/run/systemd/journal/socket');
      try {
        await accept(peer, admin.setOutputs('1:journald'));
        await provoke(peer);
        await eventually('four datagrams', () => socket.received.length >= 4);
        return socket.received.map(readJournal);
      } finally {
        await socket.close();
      }
    });
    for (const fields of actual) {
      assert.equal(fields.SYSLOG_IDENTIFIER, 'virtlockd');
      delete fields.SYSLOG_IDENTIFIER; // C leaves it to journald, which takes the name of the process
    }
    for (const fields of [...expected, ...actual]) {
      assert.match(fields.CODE_LINE ?? '', /^\d+$/);
      assert.match(fields.CODE_FUNC ?? '', /^[\w.$]+$/);
      for (const name of ['CODE_FILE', 'CODE_LINE', 'CODE_FUNC']) fields[name] = 'somewhere';
      fields.MESSAGE = withoutPackage(fields.MESSAGE ?? '');
    }
    assert.deepEqual(actual, expected);
    assert.deepEqual(
      actual.slice(2).map(({ MESSAGE, PRIORITY }) => [MESSAGE, PRIORITY]),
      [
        [failure('nope'), '3'],
        [failure(awkward.toString('latin1')), '3'],
      ],
    );
  });

  it('are taken when nobody listens there yet, and reached once a process does', async () => {
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      await accept(peer, admin.setOutputs('1:stderr'));
      await daemon.lab.run('rm', ['-f', '/dev/log']);
      await accept(peer, admin.setOutputs('1:syslog:late'));
      await provoke(peer);
      const socket = await DatagramSocket.bind(daemon.lab, '/dev/log');
      try {
        await provoke(peer);
        await eventually('two datagrams', () => socket.received.length >= 2);
        return socket.received.map((datagram) => readSyslog(datagram, daemon));
      } finally {
        await socket.close();
      }
    });
    assert.deepEqual(actual, expected);
  });

  it('get one line for each message, whatever a client puts into a name', async () => {
    const path = '/run/virtlockd-lines.log';
    const [{ daemon, peer } = assert.fail()] = subjects.slice(1);
    await accept(peer, admin.setOutputs(`1:file:${path}`));
    await peer.ask(admin.lookupServer('x\n2026-01-01 00:00:00.000+0000: 1: error : forged:1 : line\x1b[2J'));
    const lines = readFileSync(daemon.lab.outside(path), 'latin1').split('\n');
    assert.equal(lines.length, 4);
    // C writes both as they are.
    assert.match(lines[2] ?? '', /No server named 'x\\n2026.*line\\x1b\[2J'$/);
  });

  it('stay as they were when a change is refused', async () => {
    const path = '/run/virtlockd-refused.log';
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      await accept(peer, admin.setOutputs(`1:file:${path} 4:stderr`));
      const refused: (string | undefined)[] = [];
      for (const setting of ['1:file:/nowhere/x.log', `1:file:${path} 1:nowhere`, '9:stderr', 'stderr']) {
        refused.push((await peer.ask(admin.setOutputs(setting)))?.message);
        assert.equal(readSetting((await accept(peer, admin.outputs)).payload), `1:file:${path} 4:stderr`);
      }
      await provoke(peer);
      const entries = readFileLines(readFileSync(daemon.lab.outside(path), 'latin1'), daemon);
      return { refused, last: entries.slice(-2) };
    });
    assert.deepEqual(actual, expected);
    assert.ok(expected.refused.every((message) => message !== undefined));
  });

  it('are told apart by level', async () => {
    const [expected, actual] = await compare(async ({ daemon, peer }) => {
      await accept(peer, admin.setOutputs('1:file:/run/all.log 4:file:/run/errors.log'));
      await accept(peer, admin.setFilters('1:nothing'));
      await provoke(peer);
      const count = (path: string): number =>
        readFileLines(readFileSync(daemon.lab.outside(path), 'latin1'), daemon).filter(({ level }) => level === 'error')
          .length;
      return [count('/run/all.log'), count('/run/errors.log')];
    });
    assert.deepEqual(actual, expected);
    assert.deepEqual(expected, [2, 2]);
  });
});
