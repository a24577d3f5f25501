/**
 * Reads strace's output of a lock daemon or its clients, from their start or from later, also with threads. Recognizes a lock
 * daemon's connections by their messages.
 */
import { otherSide, type Peer, type Side, type Stamp } from './events.ts';
import { beginsMessage, callerIn, mayBeLength } from './guess.ts';
import { NOBODY } from './peers.ts';
import { MessageStream } from './stream.ts';
import { descriptorIn, StraceLines, stringsIn, type SystemCall } from './strace-line.ts';
import type { Tap } from './tap.ts';

const READS: ReadonlySet<string> = new Set(['read', 'recv', 'recvfrom', 'readv', 'recvmsg']);
const WRITES: ReadonlySet<string> = new Set(['write', 'send', 'sendto', 'writev', 'sendmsg']);
/** Calls with several buffers. */
const VECTORS: ReadonlySet<string> = new Set(['readv', 'recvmsg', 'writev', 'sendmsg']);

interface Waiting {
  readonly isRead: boolean;
  readonly bytes: Buffer;
  readonly time: Stamp;
  readonly cut: number;
}

interface Connection {
  /** 0 until the tap knows it. */
  id: number;
  readonly fd: number;
  /** The thread that created it, and the last one that used it. */
  readonly owner: number;
  user: number;
  /** The traced side; at first unknown for a connection that is older than the trace. */
  traced: Side | undefined;
  peer: Peer;
  /** Known as a lock daemon's by its path. */
  readonly isCertain: boolean;
  waiting: Waiting[];
  /** Of the traced side's reads and writes. */
  readonly streams: { readonly read: MessageStream; readonly write: MessageStream };
}

export class StraceReader {
  private readonly tap: Tap;
  private readonly lines = new StraceLines();
  /** The latest first. */
  private connections: Connection[] = [];
  private count = 0;
  /** The number of system calls read. */
  calls = 0;

  constructor(tap: Tap) {
    this.tap = tap;
  }

  line(text: string): void {
    const call = this.lines.parse(text);
    if (call === undefined) return;
    this.calls++;
    const { pid, name, args, result, time } = call;
    const fd = descriptorIn(args);
    if (name === 'connect') this.onConnect(call, fd);
    else if ((name === 'accept' || name === 'accept4') && result >= 0) {
      this.begin({ fd: result, owner: pid, traced: 'daemon', peer: NOBODY, isCertain: false });
    } else if (name === 'getsockopt') this.onCredentials(pid, fd, args);
    else if (name === 'close' || name === 'shutdown') this.onClose(call, fd);
    else if (READS.has(name) || WRITES.has(name)) {
      const strings = VECTORS.has(name) ? stringsIn(args, 'iov_base=') : stringsIn(args).slice(0, 1);
      this.data(pid, fd, READS.has(name), strings, result, time);
    }
  }

  private begin(of: Pick<Connection, 'fd' | 'owner' | 'traced' | 'peer' | 'isCertain'>): Connection {
    const streams = { read: new MessageStream(), write: new MessageStream() };
    const connection: Connection = { ...of, id: 0, user: of.owner, waiting: [], streams };
    const replaced = this.connections.findIndex(({ fd, owner }) => fd === of.fd && owner === of.owner);
    if (replaced >= 0) this.connections.splice(replaced, 1);
    this.connections.unshift(connection);
    return connection;
  }

  private onConnect({ pid, args, result, time }: SystemCall, fd: number): void {
    const [path] = stringsIn(args, 'sun_path=');
    if (!args.includes('AF_UNIX') || (result < 0 && !args.includes('EINPROGRESS'))) return;
    const isCertain = path?.bytes.includes('virtlockd') === true;
    const connection = this.begin({ fd, owner: pid, traced: 'client', peer: { ...NOBODY, pid }, isCertain });
    if (isCertain) this.report(connection, time);
  }

  private onCredentials(pid: number, fd: number, args: string): void {
    const [, peerPid, uid, gid] = /SO_PEERCRED, \{pid=(\d+), uid=(\d+), gid=(\d+)\}/.exec(args) ?? [];
    const connection = this.connections.find((one) => one.fd === fd && one.owner === pid);
    if (peerPid === undefined || connection?.traced !== 'daemon') return;
    connection.peer = { pid: Number(peerPid), uid: Number(uid), gid: Number(gid), program: '' };
  }

  private onClose({ pid, name, args, time }: SystemCall, fd: number): void {
    // Another process would close another descriptor with the same number.
    const connection = this.connections.find((one) => one.fd === fd && (one.owner === pid || one.user === pid));
    if (connection === undefined) return;
    if (name === 'shutdown') {
      if (connection.id > 0 && connection.traced !== undefined && /SHUT_(WR|RDWR)/.test(args)) {
        this.tap.end(connection.id, connection.traced, time);
      }
      return;
    }
    this.connections.splice(this.connections.indexOf(connection), 1);
    if (connection.id > 0) this.tap.close(connection.id, time);
  }

  private data(
    pid: number,
    fd: number,
    isRead: boolean,
    strings: readonly { bytes: Buffer; isCut: boolean }[],
    result: number,
    time: Stamp,
  ): void {
    if (result < 0) return;
    const shown = Buffer.concat(strings.map(({ bytes }) => bytes)).subarray(0, result);
    const cut = strings.some(({ isCut }) => isCut) ? result - shown.length : 0;
    const connection = this.find(pid, fd, isRead, shown);
    if (connection === undefined) return;
    connection.user = pid;
    if (isRead && result === 0) {
      if (connection.id > 0) this.tap.end(connection.id, otherSide(connection.traced ?? 'client'), time);
      return;
    }
    if (shown.length === 0) return;
    connection.waiting.push({ isRead, bytes: shown, time, cut });
    if (connection.id === 0) this.recognize(connection, isRead);
    if (connection.id > 0) this.flush(connection);
  }

  /** The connection of a call: the thread's own, another thread's, or one that is older than the trace. */
  private find(pid: number, fd: number, isRead: boolean, bytes: Buffer): Connection | undefined {
    const own = this.connections.find((one) => one.fd === fd && one.owner === pid);
    if (own !== undefined) return own;
    const begins = beginsMessage(bytes) || mayBeLength(bytes);
    const shared = this.connections.find((one) => {
      if (one.fd !== fd || pid === -1) return false;
      const stream = isRead ? one.streams.read : one.streams.write;
      return stream.rest.length === 0 ? begins && one.id > 0 : one.user === pid;
    });
    if (shared !== undefined) return shared;
    return begins ? this.begin({ fd, owner: pid, traced: undefined, peer: NOBODY, isCertain: false }) : undefined;
  }

  /** Decides by the first bytes of a direction whether this is a lock daemon's connection. */
  private recognize(connection: Connection, isRead: boolean): void {
    const first = Buffer.concat(connection.waiting.filter((one) => one.isRead === isRead).map(({ bytes }) => bytes));
    if (mayBeLength(first)) return;
    if (!beginsMessage(first)) {
      connection.waiting = [];
      // An older connection may be in the middle of a message now, and be recognized later.
      if (connection.traced === undefined) this.connections.splice(this.connections.indexOf(connection), 1);
      return;
    }
    if (connection.traced === undefined) {
      const sender = callerIn(first, 'client');
      connection.traced = isRead ? otherSide(sender) : sender;
      if (connection.traced === 'client') connection.peer = { ...NOBODY, pid: connection.owner };
    }
    this.report(connection, connection.waiting[0]?.time ?? { micros: NaN, isAbsolute: false });
  }

  private report(connection: Connection, time: Stamp): void {
    connection.id = ++this.count;
    this.tap.open(connection.id, connection.peer, time);
  }

  private flush(connection: Connection): void {
    const { id, traced = 'client', streams, peer } = connection;
    for (const { isRead, bytes, time, cut } of connection.waiting.splice(0)) {
      const stream = isRead ? streams.read : streams.write;
      const whole = cut === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(cut)]);
      stream.skip(whole);
      if (cut > 0) this.tap.note(id, `strace has cut off ${cut} bytes, filled with zeros: use its option -s`, time);
      this.tap.data(id, isRead ? otherSide(traced) : traced, whole, peer, time);
    }
  }
}
