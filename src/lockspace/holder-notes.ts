/**
 * Notes for other hosts, in the files that the daemon makes in lockspaces on storage that hosts may share: who holds the lock here (see
 * storage/holder-note.ts). The file system's helper writes and reads them. No lock is refused for a note that cannot be written.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { NOTES_MAX } from '../../xdr/programs/inquire.ts';
import { logger } from '../log/log.ts';
import { strerror, type Stat } from '../posix/posix.ts';
import { absolutePath } from '../proc/route.ts';
import type { Helper } from '../storage/helper.ts';
import { type HolderNote, parseNote, thisHost, writeNote } from '../storage/holder-note.ts';
import { type Answer, Operation, type Request } from '../storage/messages.ts';
import type { Storages } from '../storage/storages.ts';
import type { RemoteFile } from './files.ts';
import type { Resource } from './lockspaces.ts';
import type { LockMode } from './mode.ts';
import type { Hold } from './owner.ts';

const log = logger('util.lockspace');

/** Nobody waits for what a file says while so many calls wait for its file system. */
const MAX_CALLS_BEFORE = 50;

/** Whether the file gets notes: any other may be an image, or a lease that somebody has made. */
function isNoted(directory: ByteString, { autocreate }: LockMode): boolean {
  return directory !== '' && autocreate;
}

/** The note of these holds; null where there is none. */
export function noteOf(directory: ByteString, mode: LockMode, holds: readonly Hold[]): HolderNote | null {
  const [first] = holds;
  if (!isNoted(directory, mode) || first === undefined) return null;
  const { name, uuid, pid } = first.owner;
  return { ...thisHost(), name, uuid, pid, shared: mode.shared, since: first.since, owners: holds.length };
}

export function noteRequest({ file }: RemoteFile, path: ByteString, note: HolderNote): Request {
  return { operation: Operation.NOTE, file, path: absolutePath(path), note: writeNote(note) };
}

export function logNote(path: ByteString, answer: Answer | null): void {
  const status = answer?.status ?? 0;
  if (status < 0) log.debug(() => `Other hosts cannot read who holds ${path}: ${strerror(status)}`);
}

/** Writes again the notes of resources whose holds change. One at a time in each file system: calls of clients come between. */
export class HolderNotes {
  private readonly storages: Pick<Storages, 'byId'>;
  /** By helper. */
  private readonly changes = new Map<number, Set<Resource>>();

  constructor(storages: Pick<Storages, 'byId'>) {
    this.storages = storages;
  }

  /** A hold of the resource has come or gone. */
  changed(resource: Resource): void {
    // It does not look at the holds: there may be very many, and each may change them.
    const { file, lockspace, mode } = resource;
    // Where the lock is lost, the file may be another host's.
    if (file.remote === null || !file.locked || !isNoted(lockspace.directory, mode)) return;
    const { helper } = file.remote;
    const waiting = this.changes.get(helper);
    if (waiting !== undefined) {
      waiting.add(resource);
      return;
    }
    this.changes.set(helper, new Set([resource]));
    this.writeNext(helper);
  }

  private writeNext(id: number): void {
    const helper = this.storages.byId(id);
    const waiting = this.changes.get(id) ?? [];
    for (const resource of waiting) {
      this.changes.get(id)?.delete(resource);
      const { file, lockspace, mode, holds, path, release } = resource;
      const note = noteOf(lockspace.directory, mode, holds);
      if (note === null || release !== null || file.remote?.helper !== id || helper === undefined) continue;
      helper.call(noteRequest(file.remote, path, note), 0, (answer) => {
        logNote(path, answer);
        this.writeNext(id);
      });
      return;
    }
    this.changes.delete(id);
  }
}

/** What is found out, after a refusal, about a holder whom this daemon does not know. */
export interface Elsewhere {
  /** Of other hosts, or of another daemon of this host. */
  readonly notes: readonly HolderNote[];
  /** The process that the kernel names is one of this host, and has the file open. */
  readonly isHere: boolean;
}

/** Calls `done` later, once. */
export type LookElsewhere = (done: (found: Elsewhere) => void) => void;

/** The holder of a lock, as the kernel names it. */
export interface Rival {
  /** -1: unknown. Of a process on another host, or that it has there. */
  readonly pid: number;
  readonly at: Pick<Stat, 'device' | 'inode'> | null;
}

/** @param helper of the file system; null: it is not asked for notes */
export function lookElsewhere(
  helper: Helper | null,
  path: ByteString,
  { pid, at }: Rival,
  hasOpen: (pid: number, file: Pick<Stat, 'device' | 'inode'>) => Promise<boolean>,
): LookElsewhere {
  return (done) => {
    const isHere = pid > 0 && at !== null ? hasOpen(pid, at) : Promise.resolve(false);
    void Promise.all([readNotes(helper, path), isHere]).then(([notes, here]) => {
      done({ notes, isHere: here });
    });
  };
}

async function readNotes(helper: Helper | null, path: ByteString): Promise<HolderNote[]> {
  if (helper === null || helper.count >= MAX_CALLS_BEFORE) return [];
  const notes: HolderNote[] = [];
  await new Promise<void>((resolve) => {
    const onMore = (_: Answer, slot: Buffer): void => {
      const note = parseNote(slot);
      if (note !== null && notes.length < NOTES_MAX) notes.push(note);
    };
    const request = { operation: Operation.READ_NOTES, path: absolutePath(path) };
    helper.call(request, 0, () => resolve(), { onMore });
  });
  return notes;
}
