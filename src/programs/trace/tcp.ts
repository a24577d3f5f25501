/** Reassembles TCP streams, such as a UNIX socket's traffic that was forwarded over a loopback interface. */

export interface Segment {
  /** Of the connection: both ends, sorted. */
  readonly key: string;
  readonly source: string;
  readonly sequence: number;
  readonly isSyn: boolean;
  readonly isAck: boolean;
  readonly isFin: boolean;
  readonly isReset: boolean;
  readonly bytes: Buffer;
}

/** Bytes of the link layer's header, by LINKTYPE_; the packet behind it is IP. */
const LINK_HEADERS: ReadonlyMap<number, number> = new Map([
  [0, 4], // BSD loopback
  [1, 14], // Ethernet
  [12, 0], // raw IP
  [14, 0],
  [101, 0],
  [108, 4], // OpenBSD loopback
  [113, 16], // Linux "any"
  [276, 20], // the same, version 2
]);

const TCP = 6;

/** The TCP segment in a packet, if there is one. */
export function segmentOf(linkType: number, packet: Buffer): Segment | undefined {
  const start = LINK_HEADERS.get(linkType);
  if (start === undefined) return undefined;
  try {
    return ipSegment(packet.subarray(linkType === 1 ? etherLength(packet) : start));
  } catch (error) {
    // The header is cut off.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The length of an Ethernet header with its VLAN tags. */
function etherLength(packet: Buffer): number {
  let at = 12;
  while ([0x8100, 0x88a8].includes(packet.readUInt16BE(at))) at += 4;
  return at + 2;
}

function ipSegment(ip: Buffer): Segment | undefined {
  const version = ip.readUInt8(0) >> 4;
  if (version === 4) {
    const head = (ip.readUInt8(0) & 15) * 4;
    const fragment = ip.readUInt16BE(6) & 0x3fff;
    if (ip.readUInt8(9) !== TCP || fragment !== 0) return undefined;
    // 0: the device does the segmentation, so the packet has the whole length.
    const total = ip.readUInt16BE(2) === 0 ? ip.length : ip.readUInt16BE(2);
    return tcpSegment(ip.subarray(head, total), ip.toString('hex', 12, 16), ip.toString('hex', 16, 20));
  }
  if (version !== 6 || ip.readUInt8(6) !== TCP) return undefined;
  const total = ip.readUInt16BE(4) === 0 ? ip.length : 40 + ip.readUInt16BE(4);
  return tcpSegment(ip.subarray(40, total), ip.toString('hex', 8, 24), ip.toString('hex', 24, 40));
}

function tcpSegment(tcp: Buffer, from: string, to: string): Segment {
  const source = `${from}:${tcp.readUInt16BE(0)}`;
  const target = `${to}:${tcp.readUInt16BE(2)}`;
  const flags = tcp.readUInt8(13);
  return {
    key: [source, target].sort().join(' '),
    source,
    sequence: tcp.readUInt32BE(4),
    isFin: (flags & 1) !== 0,
    isSyn: (flags & 2) !== 0,
    isReset: (flags & 4) !== 0,
    isAck: (flags & 16) !== 0,
    bytes: tcp.subarray((tcp.readUInt8(12) >> 4) * 4),
  };
}

/** One direction of a TCP connection, in order. */
export class TcpStream {
  private next: number | undefined;
  private readonly early = new Map<number, { bytes: Buffer; isFin: boolean }>();
  hasEnded = false;

  /** Returns the next bytes in order, if this segment provides them. */
  push({ sequence, isSyn, isFin, bytes }: Segment): Buffer {
    if (isSyn) {
      this.next = (sequence + 1) >>> 0;
      return Buffer.alloc(0);
    }
    this.next ??= sequence;
    if (bytes.length > 0 || isFin) this.early.set(sequence, { bytes, isFin });
    const whole: Buffer[] = [];
    for (let found = this.take(); found !== undefined; found = this.take()) whole.push(found);
    return Buffer.concat(whole);
  }

  /** Whether a segment is missing. */
  get hasGap(): boolean {
    return this.early.size > 0;
  }

  /** The next piece. Segments may overlap, and may occur twice. */
  private take(): Buffer | undefined {
    for (const [sequence, { bytes, isFin }] of this.early) {
      const behind = ((this.next ?? 0) - sequence) | 0;
      if (behind < 0) continue;
      this.early.delete(sequence);
      if (behind > bytes.length) continue;
      if (isFin) this.hasEnded = true;
      if (behind === bytes.length) continue;
      this.next = (sequence + bytes.length) >>> 0;
      return bytes.subarray(behind);
    }
    return undefined;
  }
}
