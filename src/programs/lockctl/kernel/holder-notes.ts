/** What lock files on storage that hosts share say of their holders: see storage/holder-note.ts. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteString } from '../../../../xdr/codec.ts';
import { LockType, posix } from '../../../posix/posix.ts';
import { type HolderNote, NOTE_MARK, NOTE_SIZE, NOTE_SLOTS, parseNote } from '../../../storage/holder-note.ts';
import { toPath } from '../context.ts';

/** The notes in the file whose hosts hold its lock. None where the file cannot be read. As {@link findObstacle}, it is closed again. */
export function notesIn(path: ByteString): HolderNote[] {
  let fd: number;
  try {
    fd = openSync(toPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return [];
  }
  try {
    if (!fstatSync(fd).isFile() || read(fd, 0).toString('latin1', 0, NOTE_MARK.length) !== NOTE_MARK) return [];
    const slots = Array.from({ length: NOTE_SLOTS }, (_, slot) => NOTE_SIZE * (slot + 1));
    return slots.flatMap((start) => {
      const note = parseNote(read(fd, start));
      return note !== null && isLocked(fd, start) ? [note] : [];
    });
  } catch {
    return [];
  } finally {
    closeSync(fd);
  }
}

function read(fd: number, start: number): Buffer {
  const bytes = Buffer.alloc(NOTE_SIZE);
  return bytes.subarray(0, readSync(fd, bytes, 0, NOTE_SIZE, start));
}

/** A host has its slot while it has the slot's first byte locked. */
function isLocked(fd: number, start: number): boolean {
  const out = new Int32Array(2);
  return posix.getlk(fd, LockType.WRITE, start, 1, out) === 0 && out[0] !== LockType.UNLOCK;
}
