/** Reads a pcap file with the proxy's own packets, or TCP. */
import type { Peer, Side, Stamp } from './events.ts';
import { FileError } from './file-error.ts';
import { beginsMessage, callerIn } from './guess.ts';
import { LINKTYPE_USER0, PACKET_HEADER, PacketKind } from './pcap.ts';
import { packets } from './pcap-file.ts';
import { NOBODY } from './peers.ts';
import type { Tap } from './tap.ts';
import { type Segment, segmentOf, TcpStream } from './tcp.ts';

/** @throws FileError when the file is no pcap file, or is cut off, after the packets before */
export function readPcap(file: Buffer, tap: Tap): void {
  const tcp = new TcpReader(tap);
  for (const { micros, linkType, bytes } of packets(file)) {
    const time: Stamp = { micros, isAbsolute: true };
    if (linkType === LINKTYPE_USER0) ownPacket(bytes, time, tap);
    else {
      const segment = segmentOf(linkType, bytes);
      if (segment !== undefined) tcp.push(segment, time);
    }
  }
  tcp.finish();
}

function ownPacket(packet: Buffer, time: Stamp, tap: Tap): void {
  if (packet.length < PACKET_HEADER || packet[0] !== 1)
    throw new FileError('packets of link type USER0 from another program');
  const [, kind, side] = packet;
  const from: Side = side === 0 ? 'client' : 'daemon';
  const connection = packet.readUInt32BE(4);
  const peer: Peer = {
    pid: packet.readInt32BE(8),
    uid: packet.readInt32BE(12),
    gid: packet.readInt32BE(16),
    program: packet.toString('latin1', 20, PACKET_HEADER).replace(/\0.*$/s, ''),
  };
  const content = packet.subarray(PACKET_HEADER);
  switch (kind) {
    case PacketKind.OPEN:
      tap.open(connection, peer, time);
      break;
    case PacketKind.DATA:
      tap.data(connection, from, content, peer, time);
      break;
    case PacketKind.END:
      tap.end(connection, from, time);
      break;
    case PacketKind.CLOSE:
      tap.close(connection, time);
      break;
    case PacketKind.DESCRIPTORS:
      tap.descriptors(connection, from, content.readUInt32BE(0), time);
      break;
    case PacketKind.NOTE:
      tap.note(connection, content.toString(), time);
      break;
    default:
      throw new FileError(`a packet of unknown kind ${kind ?? -1}`);
  }
}

interface TcpConnection {
  readonly id: number;
  readonly streams: Map<string, TcpStream>;
  /** The end that connected, or made the first call; undefined until known. */
  client: string | undefined;
  /** Whether the tap knows it. It does not see connections of other protocols. */
  isReported: boolean;
  isOver: boolean;
}

class TcpReader {
  private readonly tap: Tap;
  private readonly connections = new Map<string, TcpConnection>();
  private count = 0;
  private last: Stamp = { micros: NaN, isAbsolute: true };

  constructor(tap: Tap) {
    this.tap = tap;
  }

  push(segment: Segment, time: Stamp): void {
    this.last = time;
    const { key, source, isSyn, isAck } = segment;
    let connection = this.connections.get(key);
    if (connection === undefined || (isSyn && !isAck)) {
      connection = { id: 0, streams: new Map(), client: undefined, isReported: false, isOver: false };
      this.connections.set(key, connection);
    }
    if (isSyn) connection.client = isAck ? key.split(' ').find((end) => end !== source) : source;
    const stream = connection.streams.get(source) ?? new TcpStream();
    connection.streams.set(source, stream);
    const hadEnded = stream.hasEnded;
    const bytes = stream.push(segment);
    if (bytes.length > 0) connection = this.data(connection, key, source, bytes, time);
    if (!connection.isReported || connection.isOver) return;
    if (stream.hasEnded && !hadEnded) this.tap.end(connection.id, side(connection, source), time);
    if (segment.isReset || [...connection.streams.values()].filter(({ hasEnded }) => hasEnded).length === 2) {
      connection.isOver = true;
      this.tap.close(connection.id, time);
    }
  }

  finish(): void {
    for (const { id, isReported, isOver, streams } of this.connections.values()) {
      if (!isReported || isOver) continue;
      if ([...streams.values()].some(({ hasGap }) => hasGap)) {
        this.tap.note(id, 'segments are missing; bytes after them are not shown', this.last);
      }
    }
  }

  private data(known: TcpConnection, key: string, source: string, bytes: Buffer, time: Stamp): TcpConnection {
    let connection = known;
    if (!connection.isReported) {
      if (!beginsMessage(bytes)) return connection;
      const caller = callerIn(bytes, 'client');
      const client = connection.client ?? (caller === 'client' ? source : key.split(' ').find((end) => end !== source));
      connection = { ...connection, id: ++this.count, client, isReported: true };
      this.connections.set(key, connection);
      this.tap.open(connection.id, NOBODY, time);
    }
    this.tap.data(connection.id, side(connection, source), bytes, NOBODY, time);
    return connection;
  }
}

function side({ client }: TcpConnection, source: string): Side {
  return client === source ? 'client' : 'daemon';
}
