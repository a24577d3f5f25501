/** Reads packets out of pcap and pcapng files. */
import { FileError } from './file-error.ts';

interface Packet {
  readonly micros: number;
  /** The interface's LINKTYPE_. */
  readonly linkType: number;
  readonly bytes: Buffer;
}

const PCAPNG = 0x0a0d0d0a;

/** The packets of a file, in order. @throws FileError when it is no pcap file, or is cut off */
export function* packets(file: Buffer): Generator<Packet> {
  if (file.length < 24) throw new FileError('too short for a pcap file');
  if (file.readUInt32BE(0) === PCAPNG) yield* pcapng(file);
  else yield* pcap(file);
}

/** Words in the byte order of the file. */
class Words {
  private readonly bytes: Buffer;
  private readonly isBig: boolean;

  constructor(bytes: Buffer, isBig: boolean) {
    this.bytes = bytes;
    this.isBig = isBig;
  }

  u16(at: number): number {
    this.check(at + 2);
    return this.isBig ? this.bytes.readUInt16BE(at) : this.bytes.readUInt16LE(at);
  }

  u32(at: number): number {
    this.check(at + 4);
    return this.isBig ? this.bytes.readUInt32BE(at) : this.bytes.readUInt32LE(at);
  }

  slice(from: number, length: number): Buffer {
    this.check(from + length);
    return this.bytes.subarray(from, from + length);
  }

  private check(end: number): void {
    if (end > this.bytes.length) throw new FileError(`cut off at byte ${this.bytes.length}`);
  }
}

function* pcap(file: Buffer): Generator<Packet> {
  const magics = new Map([
    [0xa1b2c3d4, 1],
    [0xa1b23c4d, 1000],
  ]);
  const isBig = magics.has(file.readUInt32BE(0));
  const words = new Words(file, isBig);
  const perMicro = magics.get(words.u32(0));
  if (perMicro === undefined) throw new FileError('neither pcap nor pcapng');
  const linkType = words.u32(20) & 0xffff;
  for (let at = 24; at < file.length;) {
    const length = words.u32(at + 8);
    const micros = words.u32(at) * 1e6 + words.u32(at + 4) / perMicro;
    yield { micros, linkType, bytes: words.slice(at + 16, length) };
    at += 16 + length;
  }
}

const Block = { SECTION: PCAPNG, INTERFACE: 1, SIMPLE: 3, ENHANCED: 6 } as const;

function* pcapng(file: Buffer): Generator<Packet> {
  let words = new Words(file, false);
  let interfaces: { linkType: number; perMicro: number }[] = [];
  for (let at = 0; at < file.length;) {
    if (file.readUInt32BE(at) === PCAPNG) {
      words = new Words(file, new Words(file, true).u32(at + 8) === 0x1a2b3c4d);
      interfaces = [];
    }
    const type = words.u32(at);
    const length = words.u32(at + 4);
    if (length < 12 || length % 4 !== 0) throw new FileError(`a block of ${length} bytes at byte ${at}`);
    words.slice(at, length);
    if (type === Block.INTERFACE) {
      interfaces.push({ linkType: words.u16(at + 8), perMicro: resolution(words, at + 16, at + length - 4) });
    } else if (type === Block.ENHANCED) {
      const { linkType = -1, perMicro = 1 } = interfaces[words.u32(at + 8)] ?? {};
      const micros = (words.u32(at + 12) * 2 ** 32 + words.u32(at + 16)) / perMicro;
      yield { micros, linkType, bytes: words.slice(at + 28, words.u32(at + 20)) };
    } else if (type === Block.SIMPLE) {
      const size = Math.min(words.u32(at + 8), length - 16);
      yield { micros: NaN, linkType: interfaces[0]?.linkType ?? -1, bytes: words.slice(at + 12, size) };
    }
    at += length;
  }
}

/** Time units in a microsecond, from the option if_tsresol; by default 1. */
function resolution(words: Words, from: number, end: number): number {
  for (let at = from; at + 4 <= end;) {
    const code = words.u16(at);
    const length = words.u16(at + 2);
    if (code === 0) break;
    if (code === 9 && length === 1) {
      const [value = 6] = words.slice(at + 4, 1);
      return ((value & 0x80) === 0 ? 10 ** value : 2 ** (value & 0x7f)) / 1e6;
    }
    at += 4 + ((length + 3) & ~3);
  }
  return 1;
}
