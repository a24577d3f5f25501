/** The messages between the daemon and a helper, as messages.h describes them. */
import { endianness } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { inodeNumber, type Stat } from '../posix/posix.ts';
import { NOTE_SIZE } from './holder-note.ts';

export const Operation = {
  /** Lists the locked files: an answer for each with MORE, then one without. */
  LIST: 1,
  /** Opens and locks the file at the path. Flags: SHARED, CREATE. */
  ACQUIRE: 2,
  /** Unlinks the file if the path still names it (UNLINK), unlocks and closes it. The status is unlink's. */
  RELEASE: 3,
  /** Makes an empty file; one that exists is fine. */
  CREATE: 4,
  /** Unlinks a file that nobody has locked. */
  DELETE: 5,
  /** Flag: FORCE_SYNC. */
  STAT: 6,
  MAKE_DIRECTORY: 7,
  /** The file's descriptor comes with the answer. */
  HAND_OVER: 8,
  /** Closes a file that was handed over, and leaves its lock. */
  FORGET: 9,
  /** -ESTALE: the path names another file than the locked one. */
  CONFIRM: 10,
  /** Waits where the call that makes or removes the name would wait for a thaw, and changes nothing. */
  TRY_WRITE: 11,
  /** Writes a note of its holder into a locked file: see holder-note.ts. */
  NOTE: 12,
  /** Reads the notes that count of a file that others have locked: an answer for each with MORE, then one without. */
  READ_NOTES: 13,
  /**
   * Asks whether the lock of a file is still held, and changes no lock. 0: nothing speaks against it. BUSY: another process or host has
   * it. LOST: it is gone, and nobody else has it. Any other status: it is not known. -EOPNOTSUPP: the file system cannot be asked.
   */
  CONFIRM_LOCK: 14,
  /** Opens and locks a file again whose lock CONFIRM_LOCK has found lost. -ESTALE: the path names another file. */
  LOCK_AGAIN: 15,
} as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

export const RequestFlag = { SHARED: 1, CREATE: 2, UNLINK: 4, FORCE_SYNC: 8 } as const;

/** OPEN, LOCK, BUSY: what failed in an acquire. INODE: the answer has a stat. HELPER: it names the helper's own process. */
export const AnswerFlag = {
  OPEN: 1,
  LOCK: 2,
  BUSY: 4,
  SHARED: 8,
  MORE: 16,
  INODE: 32,
  HELPER: 64,
  OWN: 128,
  LOST: 256,
} as const;

const REQUEST_HEAD = 24;
/** As in limits.h: a path of so many bytes names no file. */
export const PATH_MAX = 4096;
export const REQUEST_MAX = REQUEST_HEAD + PATH_MAX;
export const ANSWER_SIZE = 64;
/** An answer with a note behind it. */
export const NOTED_ANSWER_SIZE = ANSWER_SIZE + NOTE_SIZE;

export interface Request {
  readonly operation: Operation;
  readonly flags?: number;
  /** A locked file, by the helper's number. */
  readonly file?: number;
  /** Absolute. */
  readonly path?: ByteString;
  /** Of {@link NOTE_SIZE}. */
  readonly note?: Buffer;
}

export interface Answer {
  readonly operation: number;
  /** 0 or -errno. */
  readonly status: number;
  readonly flags: number;
  readonly file: number;
  /** Null without {@link AnswerFlag.INODE}. */
  readonly stat: Stat | null;
  /** With BUSY: the pid of the process that has the lock; -1 when it is not known. */
  readonly rival: number;
  /** The helper's pid; 0 from one that does not report it. */
  readonly helper: number;
  /** The descriptor that came with it, or -1. */
  readonly fd: number;
}

const isLittle = endianness() === 'LE';
const read32 = (buffer: Buffer, at: number): number => (isLittle ? buffer.readUInt32LE(at) : buffer.readUInt32BE(at));
const readSigned = (buffer: Buffer, at: number): number => (isLittle ? buffer.readInt32LE(at) : buffer.readInt32BE(at));
const read64 = (buffer: Buffer, at: number): number | bigint => {
  const [low, high] = isLittle ? [at, at + 4] : [at + 4, at];
  return inodeNumber(read32(buffer, high), read32(buffer, low));
};
const write32 = (buffer: Buffer, value: number, at: number): number =>
  isLittle ? buffer.writeUInt32LE(value, at) : buffer.writeUInt32BE(value, at);
const write64 = (buffer: Buffer, value: number, at: number): number =>
  isLittle ? buffer.writeBigUInt64LE(BigInt(value), at) : buffer.writeBigUInt64BE(BigInt(value), at);

/** Returns the length of the message; 0 when it is too long: the path, for any file, or with a note before it. */
export function writeRequest(
  buffer: Buffer,
  serial: number,
  { operation, flags = 0, file = 0, path = '', note }: Request,
): number {
  const start = REQUEST_HEAD + (note?.copy(buffer, REQUEST_HEAD) ?? 0);
  if (start + path.length >= REQUEST_MAX) return 0;
  write32(buffer, operation, 0);
  write32(buffer, flags, 4);
  write64(buffer, serial, 8);
  write64(buffer, file, 16);
  return start + buffer.write(path, start, 'latin1');
}

/** The serial number of the request that an answer is for. */
export function serialOf(buffer: Buffer): number {
  return Number(read64(buffer, 8));
}

export function readAnswer(buffer: Buffer, fd: number): Answer {
  const flags = read32(buffer, 60);
  const stat: Stat = {
    device: Number(read64(buffer, 24)),
    inode: read64(buffer, 32),
    type: read32(buffer, 40),
    blockDevice: Number(read64(buffer, 48)),
    links: read32(buffer, 44),
  };
  return {
    operation: read32(buffer, 0),
    status: readSigned(buffer, 4),
    flags,
    file: Number(read64(buffer, 16)),
    stat: (flags & AnswerFlag.INODE) === 0 ? null : stat,
    rival: (flags & AnswerFlag.BUSY) === 0 ? -1 : readSigned(buffer, 56),
    helper: (flags & AnswerFlag.HELPER) === 0 ? 0 : readSigned(buffer, 56),
    fd,
  };
}
