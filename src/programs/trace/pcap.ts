/**
 * Writes the file of `--write-pcap`: classic pcap, microseconds, link type USER0 (147). A packet is
 *
 *     u8  version (1)   u8 kind   u8 side (0 client, 1 daemon)   u8 0
 *     u32 connection    i32 pid   i32 uid   i32 gid
 *     char program[16], NUL-terminated
 *     the bytes (kind 1), or the text (kind 5)
 *
 * in network order. Kinds: 0 open, 1 bytes, 2 end of a side, 3 close, 4 descriptors (a u32, how many), 5 note.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Peer, Side, Stamp } from './events.ts';
import { NOBODY } from './peers.ts';
import type { Tap } from './tap.ts';

export const LINKTYPE_USER0 = 147;
export const PACKET_HEADER = 36;
export const PacketKind = { OPEN: 0, DATA: 1, END: 2, CLOSE: 3, DESCRIPTORS: 4, NOTE: 5 } as const;

/** The largest packet that common readers accept. */
const SNAPLEN = 262_144;

export class PcapWriter implements Tap {
  private readonly fd: number;
  private readonly peers = new Map<number, Peer>();

  /** @throws Error of the system when the file cannot be created */
  constructor(path: string) {
    this.fd = openSync(path, 'w', 0o600);
    const header = Buffer.alloc(24);
    header.writeUInt32LE(0xa1b2c3d4, 0);
    header.writeUInt16LE(2, 4);
    header.writeUInt16LE(4, 6);
    header.writeUInt32LE(SNAPLEN, 16);
    header.writeUInt32LE(LINKTYPE_USER0, 20);
    writeSync(this.fd, header);
  }

  open(connection: number, peer: Peer, time: Stamp): void {
    this.peers.set(connection, peer);
    this.packet(PacketKind.OPEN, connection, 'client', Buffer.alloc(0), time);
  }

  data(connection: number, from: Side, bytes: Buffer, peer: Peer, time: Stamp): void {
    this.peers.set(connection, peer);
    for (let at = 0; at < bytes.length; at += SNAPLEN - PACKET_HEADER) {
      this.packet(PacketKind.DATA, connection, from, bytes.subarray(at, at + SNAPLEN - PACKET_HEADER), time);
    }
  }

  descriptors(connection: number, from: Side, count: number, time: Stamp): void {
    const word = Buffer.alloc(4);
    word.writeUInt32BE(count);
    this.packet(PacketKind.DESCRIPTORS, connection, from, word, time);
  }

  end(connection: number, from: Side, time: Stamp): void {
    this.packet(PacketKind.END, connection, from, Buffer.alloc(0), time);
  }

  close(connection: number, time: Stamp): void {
    this.packet(PacketKind.CLOSE, connection, 'client', Buffer.alloc(0), time);
    this.peers.delete(connection);
  }

  note(connection: number, text: string, time: Stamp): void {
    this.packet(PacketKind.NOTE, connection, 'client', Buffer.from(text), time);
  }

  finish(): void {
    closeSync(this.fd);
  }

  private packet(kind: number, connection: number, side: Side, content: Buffer, { micros }: Stamp): void {
    const { pid, uid, gid, program } = this.peers.get(connection) ?? NOBODY;
    const length = PACKET_HEADER + content.length;
    const head = Buffer.alloc(16 + PACKET_HEADER);
    head.writeUInt32LE(Math.floor(micros / 1e6) >>> 0, 0);
    head.writeUInt32LE(Math.floor(micros % 1e6), 4);
    head.writeUInt32LE(length, 8);
    head.writeUInt32LE(length, 12);
    head.set([1, kind, side === 'client' ? 0 : 1, 0], 16);
    head.writeUInt32BE(connection, 20);
    for (const [index, value] of [pid, uid, gid].entries()) head.writeInt32BE(value | 0, 24 + 4 * index);
    head.write(program.slice(0, 15), 36, 'latin1');
    writeSync(this.fd, Buffer.concat([head, content]));
  }
}
