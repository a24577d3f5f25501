/** The calls of one connection for files on storage that may hang: as those of files.ts, but each may throw Waiting. */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import type { Ending } from '../rpc/waiting.ts';
import type { Asker } from '../storage/asker.ts';
import type { HolderNote } from '../storage/holder-note.ts';
import { trialOf } from '../storage/thaw.ts';
import { type Answer, AnswerFlag, Operation, PATH_MAX, type Request, RequestFlag } from '../storage/messages.ts';
import { absolutePath, type Place } from '../proc/route.ts';
import { failure, type Storages } from '../storage/storages.ts';
import {
  type DirectoryCalls,
  HeldFile,
  joinPath,
  type KnownFiles,
  knownFiles,
  type LockFailure,
  registerRemote,
} from './files.ts';
import { logNote, lookElsewhere, type LookElsewhere, noteRequest, type Rival } from './holder-notes.ts';
import type { LockMode } from './mode.ts';
import { hasOpen, sendRelease } from './remote-files.ts';

const { ENAMETOOLONG } = constants.errno;

export class RemoteCalls {
  private readonly storages: Storages;
  readonly asker: Asker;

  constructor(storages: Storages, asker: Asker) {
    this.storages = storages;
    this.asker = asker;
  }

  /** Runs a handler that makes such calls. */
  run<T>(handler: () => T): T {
    return this.asker.run(handler);
  }

  /** The connection has ended. */
  abandon(): void {
    this.asker.abandon();
  }

  /** False when no path leads to storage that may hang, and no call waits for its path's turn or has it. */
  get mayNeed(): boolean {
    return this.storages.mayHang || !this.asker.isAlone;
  }

  /** Where the path leads, if that may hang. Waits for the path's turn then, and whenever another call has that turn or waits for it. */
  placeAt(path: ByteString): Place | null {
    const place = this.storages.placeOf(path);
    if (place === null) this.awaitTurn(path);
    else this.asker.enter(path);
    return place;
  }

  /** For a path on a local file system: waits until earlier calls for it that wait are done. @throws Waiting */
  awaitTurn(path: ByteString): void {
    if (!this.asker.isFree(path)) this.asker.enter(path);
  }

  /** Before a name is made or removed on a local file system: waits while that is frozen. @throws Waiting */
  awaitThaw(directory: ByteString, name: ByteString, pid = 0): void {
    const { thaws } = this.storages;
    const isFirst = !this.asker.hasAnswer && (this.asker.isAlone || this.asker.isFree(joinPath(directory, name)));
    if (isFirst && thaws.isTrusted(directory, name)) return;
    const path = joinPath(directory, name);
    const helper = thaws.trierFor(path);
    if (helper !== null) {
      this.asker.enter(path);
      if (!helper.isUp) this.asker.awaitStart(helper);
      this.asker.ask(() => this.storages.helperFor(helper.place), trialOf(path), pid);
    }
    thaws.tried(directory, name, helper);
  }

  /** @param note of the holder, for other hosts; null: none */
  acquire(
    place: Place,
    path: ByteString,
    mode: LockMode,
    pid: number,
    note: HolderNote | null = null,
  ): HeldFile | LockFailure {
    const { shared, autocreate } = mode;
    const flags = (shared ? RequestFlag.SHARED : 0) | (autocreate ? RequestFlag.CREATE : 0);
    const { helper, answer } = this.ask(place, { operation: Operation.ACQUIRE, flags, path }, pid);
    if (isReleasedSince(answer) && this.asker.forgetLast()) return this.acquire(place, path, mode, pid, note);
    if (answer.status !== 0 || answer.stat === null) return failureIn(answer);
    const remote = { helper: helper.id, file: answer.file };
    // Before anybody can be told of the lock.
    if (note !== null) logNote(path, this.asker.ask(() => helper, noteRequest(remote, path, note), pid).answer);
    const file = registerRemote(answer.stat, shared, remote);
    // The daemon's own reasons, or the file is held under another name.
    if (!(file instanceof HeldFile) || file.remote !== remote) sendRelease(helper, remote.file);
    return file;
  }

  /** How to find out, later, who is in the way of an acquire there. */
  lookElsewhere(place: Place, directory: ByteString, name: ByteString, rival: Rival): LookElsewhere {
    const helper = directory === '' ? null : this.storages.helperAt(place);
    return lookElsewhere(helper, joinPath(directory, name), rival, hasOpen);
  }

  findKnown(place: Place, path: ByteString): KnownFiles {
    return knownFiles(this.ask(place, { operation: Operation.STAT, path }).answer.stat);
  }

  /** Returns 0 or -errno. */
  create(place: Place, path: ByteString): number {
    return this.ask(place, { operation: Operation.CREATE, path }).answer.status;
  }

  /** Returns 0 or -errno; -EAGAIN when it is locked. */
  delete(place: Place, path: ByteString): number {
    return this.ask(place, { operation: Operation.DELETE, path }).answer.status;
  }

  /** The calls to make a directory there; null where nothing hangs. */
  directoriesAt(directory: ByteString): DirectoryCalls | null {
    const place = this.placeAt(directory);
    if (place === null) return null;
    return {
      typeOf: (path) => {
        const { status, stat } = this.ask(place, { operation: Operation.STAT, path }).answer;
        return stat?.type ?? status;
      },
      make: (path) => this.ask(place, { operation: Operation.MAKE_DIRECTORY, path }).answer.status,
    };
  }

  /** The call has waited for an ending. */
  get hasAwaited(): boolean {
    return this.asker.hasAwaited;
  }

  awaitEnding(ending: Ending): never {
    return this.asker.awaitEnding(ending);
  }

  /** @throws Waiting; RpcError when the helper has died */
  private ask(place: Place, request: Request, pid = 0): { helper: ReturnType<Storages['helperFor']>; answer: Answer } {
    const path = absolutePath(request.path ?? '');
    if (path.length >= PATH_MAX) return { helper: this.storages.helperFor(place), answer: TOO_LONG };
    const { helper, answer } = this.asker.ask(() => this.storages.helperFor(place), { ...request, path }, pid);
    if (answer === null || helper.isDead) {
      throw failure(`the storage helper for the file system at ${place.name} ended before it had answered`);
    }
    return { helper, answer };
  }
}

const TOO_LONG: Answer = {
  operation: 0,
  status: -ENAMETOOLONG,
  flags: AnswerFlag.OPEN,
  file: 0,
  stat: null,
  rival: -1,
  helper: 0,
  fd: -1,
};

/** The helper had the file when it answered, and has released it since, before the call was made again. */
function isReleasedSince({ flags, stat }: Answer): boolean {
  return (flags & AnswerFlag.BUSY) !== 0 && (flags & AnswerFlag.OWN) !== 0 && knownFiles(stat).held.length === 0;
}

function failureIn({ status, flags, stat, rival }: Answer): LockFailure {
  if ((flags & AnswerFlag.BUSY) !== 0) {
    const [file] = knownFiles(stat).held;
    // Of a lock on another host, file systems name process 0, -1 or any.
    const pid = rival > 0 ? rival : -1;
    return file === undefined ? { kind: 'busy', pid, at: stat } : { kind: 'busy', pid: 0, file };
  }
  return { kind: (flags & AnswerFlag.OPEN) === 0 ? 'lock' : 'open', errno: -status };
}
