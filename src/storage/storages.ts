/** The helpers of all file systems that may hang, each started on first use. */
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError } from '../libvirt/errors.ts';
import { logger } from '../log/log.ts';
import { posix, strerror } from '../posix/posix.ts';
import { mountChanges } from '../proc/mount-changes.ts';
import { type Place, Routes } from '../proc/route.ts';
import type { Poller } from '../rpc/poller.ts';
import { Helper, type HelperLink, type HelperObserver, startHelper, type StorageCall } from './helper.ts';
import { type Answer, Operation } from './messages.ts';
import type { EndedHelperState, HelperState } from './state.ts';
import { Thaws } from './thaw.ts';

const log = logger('locking.lock_daemon');

/** The most helpers at a time. */
const MAX_HELPERS = 64;
/** The most calls of clients that are queued at one helper. */
const MAX_CALLS = 1000;
/**
 * How many helpers that have ended the next program is told of, the last ones. A resource whose helper it is not told of counts as lost to
 * an unknown process, which ends nobody.
 */
const MAX_ENDED = 256;
/** How long after a helper could not be started none is that can be done without, in milliseconds. */
const FAILURE_MS = 10_000;

/** Where calls hang or wait: for status. */
export interface StorageView {
  readonly name: ByteString;
  /** The helper's process; 0 while it has not answered. */
  readonly pid: number;
  /** Since when it has not answered, in milliseconds since 1970; 0 when it does. */
  readonly hangsSince: number;
  readonly calls: readonly StorageCall[];
}

export interface StorageObserver {
  /** The set of helpers has changed: it is to outlive the process. */
  changed(): void;
  /** Whether the helper has files that are held. */
  keeps(helper: Helper): boolean;
  /** A helper's socket is about to be closed. */
  closing(socket: number): void;
  /** A helper has listed its files. */
  listed(helper: Helper, files: readonly Answer[]): void;
  /** A helper has died, and all its locks with it; `next` is empty yet, or null when there is none. */
  died(helper: Helper, next: Helper | null): void;
}

const NOBODY: StorageObserver = {
  changed: () => undefined,
  keeps: () => false,
  closing: () => undefined,
  listed: () => undefined,
  died: () => undefined,
};

export class Storages {
  private readonly link: HelperLink;
  private readonly routes: Routes;
  private readonly helpers = new Map<string, Helper>();
  /** Of all helpers so far. */
  private readonly pids = new Set<number>();
  /** The processes of those that have ended, by their ids, the last {@link MAX_ENDED}. */
  private readonly ended = new Map<number, number>();
  private nextId = 1;
  /** {@link mountChanges} when the routes were last right. */
  private seenChanges = 0;
  readonly thaws: Thaws;
  /** When a helper has ended that never served. */
  private lastFailure = 0;
  observer = NOBODY;

  constructor(
    poller: Pick<Poller, 'watch' | 'unwatch'>,
    routes = new Routes(),
    start: HelperLink['start'] = startHelper,
  ) {
    this.link = { poller, start };
    this.routes = routes;
    this.thaws = new Thaws(this);
  }

  /** Whether any path leads to a file system that may hang. */
  get mayHang(): boolean {
    return this.presentRoutes.mayHang;
  }

  private get presentRoutes(): Routes {
    const changes = mountChanges();
    if (changes !== this.seenChanges) {
      this.routes.forget();
      this.thaws.forget();
    }
    this.seenChanges = changes;
    return this.routes;
  }

  /** Whether any helper is there: without one no file is a helper's. */
  get hasHelpers(): boolean {
    return this.helpers.size > 0;
  }

  /** The file system at the path, if a call for it may hang. */
  placeOf(path: ByteString): Place | null {
    return this.mayHang ? this.routes.placeOf(path) : null;
  }

  /** The local file system in which a call for the path would make a name, if it may be frozen. */
  freezableAt(path: ByteString): Place | null {
    return this.presentRoutes.freezableAt(path);
  }

  /** All helpers, for the next program. */
  get state(): HelperState[] {
    return Array.from(this.helpers.values(), ({ state }) => state);
  }

  /** The helpers that have ended, for the next program: it must know whose process has had a lock, and that no such process is a rival. */
  get endedState(): EndedHelperState[] {
    return Array.from(this.ended, ([id, pid]) => ({ id, pid }));
  }

  /** Local file systems that are being tried. */
  get trials(): { readonly helper: Helper; readonly path: ByteString }[] {
    return Array.from(this.helpers.values()).flatMap((helper) => {
      const [first] = helper.calls;
      return first?.request.operation === Operation.TRY_WRITE ? [{ helper, path: first.request.path ?? '' }] : [];
    });
  }

  get views(): StorageView[] {
    return Array.from(this.helpers.values(), ({ place, pid, hangsSince, calls }) => ({
      name: place.name,
      pid,
      hangsSince,
      calls,
    }));
  }

  /** Whether a process is one of these helpers, or was one: storage may not know yet that its locks have ended. */
  wasHelper(pid: number): boolean {
    return this.pids.has(pid);
  }

  /** The helper with this id; undefined when it has died. */
  byId(id: number): Helper | undefined {
    for (const helper of this.helpers.values()) if (helper.id === id) return helper;
    return undefined;
  }

  /** The process of the helper with this id, which has ended; 0: that is not known. */
  endedProcessOf(id: number): number {
    return this.ended.get(id) ?? 0;
  }

  /**
   * The helper of a place, started if there is none, for a call of a client.
   *
   * @throws RpcError at a limit
   */
  helperFor(place: Place): Helper {
    const helper = this.helpers.get(place.key) ?? this.start(place);
    if (helper.count < MAX_CALLS) return helper;
    const since =
      helper.hangsSince === 0 ? '' : `, which does not answer since ${new Date(helper.hangsSince).toISOString()}`;
    throw failure(`${helper.count} calls wait for the file system at ${place.name}${since}`);
  }

  /**
   * The helper of a place that answers by itself, started if there is none; null when there is none now, or it does not start: who
   * asks can do without.
   */
  helperAt(place: Place): Helper | null {
    const present = this.helpers.get(place.key);
    if (present !== undefined) return present.isLate ? null : present;
    if (Date.now() - this.lastFailure < FAILURE_MS) return null;
    try {
      const helper = this.start(place);
      // Its first answer shows that it is there: the next may take as long as the file system is frozen.
      helper.call({ operation: Operation.LIST }, 0, () => undefined, { isUrgent: true });
      return helper;
    } catch (error) {
      log.debug(() => (error as Error).message);
      return null;
    }
  }

  /** Goes on with the helpers of the previous program or process. They get no request before {@link attach}. */
  restore(states: readonly HelperState[]): void {
    for (const { id, key, name, socket, pid = 0 } of states) {
      this.nextId = Math.max(this.nextId, id + 1);
      const helper = new Helper(id, { key, name }, socket, this.link, this.watcher, true);
      helper.pid = pid;
      this.pids.add(pid);
      this.helpers.set(key, helper);
    }
  }

  /** Knows the helpers that have ended under the previous program or process. */
  restoreEnded(states: readonly EndedHelperState[]): void {
    for (const { id, pid } of states) {
      // Files are on record with that id: another helper with it would be taken for theirs.
      this.nextId = Math.max(this.nextId, id + 1);
      this.pids.add(pid);
      this.noteEnd({ id, pid });
    }
  }

  private noteEnd({ id, pid }: EndedHelperState): void {
    if (pid === 0) return;
    this.ended.set(id, pid);
    for (const oldest of this.ended.keys()) {
      if (this.ended.size <= MAX_ENDED) break;
      this.ended.delete(oldest);
    }
  }

  /** Has the helpers of {@link restore} list their files, now that all waiting calls are known. */
  attach(): void {
    for (const helper of [...this.helpers.values()]) {
      helper.attach((files) => {
        this.observer.listed(helper, files);
      });
    }
  }

  private start(place: Place): Helper {
    if (this.helpers.size >= MAX_HELPERS) this.endIdle();
    if (this.helpers.size >= MAX_HELPERS) {
      throw failure(`${MAX_HELPERS} file systems that may hang are in use, and ${place.name} would be one more`);
    }
    const helper = Helper.start(this.nextId, place, this.link, this.watcher);
    if (typeof helper === 'number')
      throw failure(`no helper for the file system at ${place.name}: ${strerror(helper)}`);
    this.nextId++;
    this.helpers.set(place.key, helper);
    this.observer.changed();
    return helper;
  }

  /** Ends helpers without calls and files: each mount of a file system may have another device number. */
  private endIdle(): void {
    for (const [key, helper] of this.helpers) {
      if (helper.count > 0 || this.observer.keeps(helper)) continue;
      this.helpers.delete(key);
      this.noteEnd(helper);
      helper.end();
      this.observer.closing(helper.socket);
      posix.close(helper.socket);
    }
  }

  private readonly watcher: HelperObserver = {
    identified: ({ pid }) => {
      this.pids.add(pid);
      this.observer.changed();
    },
    died: (helper) => {
      this.onDeath(helper);
    },
  };

  private onDeath(helper: Helper): void {
    const { place, hasServed } = helper;
    if (!hasServed) this.lastFailure = Date.now();
    if (this.helpers.get(place.key) === helper) this.helpers.delete(place.key);
    this.noteEnd(helper);
    this.observer.closing(helper.socket);
    posix.close(helper.socket);
    const calls = helper.takeCalls();
    log.error(`The storage helper for the file system at ${place.name} has ended`);
    let next: Helper | null = null;
    try {
      // One that never served would end again.
      if (hasServed) next = this.start(place);
    } catch (error) {
      log.error((error as Error).message);
    }
    this.observer.changed();
    // What it loses comes before the calls.
    this.observer.died(helper, next);
    for (const call of calls) call(next);
  }
}

export function failure(detail: string): RpcError {
  return new RpcError(ErrorCode.INTERNAL_ERROR, ErrorDomain.LOCKSPACE, detail);
}
