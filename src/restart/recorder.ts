/**
 * Makes the daemon's state outlive the process. Writes every change into the record before a client can see it, and stores every
 * descriptor that the record names (store.ts). The rooms call it in this order:
 *
 * - A new lock or client: its descriptor is stored, then it is recorded, then the call is answered. A descriptor that is stored and not
 *   recorded has no owner yet.
 * - A lock that ends is recorded as releasing, then the file is unlinked and unlocked, its descriptor removed from the store and closed,
 *   and the lock recorded as released.
 * - A connection that ends is shut down, then recorded, then its descriptor is removed from the store and closed.
 *
 * Without a store there is no recorder, and locks end with the process, as C's do. So do the connections of clients beyond the manager's
 * limit.
 */
import { type ClientRecorder, NO_CLIENT_RECORDER } from '../daemon/client-recorder.ts';
import type { AdminPeer, Daemon } from '../daemon/daemon.ts';
import { changing, changingState } from '../daemon/state.ts';
import type { LockClient } from '../lockd/client.ts';
import type { OwnerEnd } from '../lockd/owner-end.ts';
import { type EndRecorder, NO_END_RECORDER } from '../lockd/owner-reaper.ts';
import { ownerEnd } from '../lockd/state.ts';
import type { FileKeeper } from '../lockspace/file-keeper.ts';
import type { HeldFile } from '../lockspace/files.ts';
import { isLocalFile } from '../lockspace/local-files.ts';
import { type LockRecorder, type Lockspace, NO_LOCK_RECORDER, type Resource } from '../lockspace/lockspaces.ts';
import type { Hold } from '../lockspace/owner.ts';
import { bareResourceState, holdState, resource as resourceKind } from '../lockspace/state.ts';
import { logger } from '../log/log.ts';
import { CallMark, posix, type Stat, strerror } from '../posix/posix.ts';
import type { Connection } from '../rpc/connection.ts';
import { serverState, server as serverKind } from '../rpc/state.ts';
import { type Kind, replaceDescriptors } from '../state/state.ts';
import { StoredKind, type StoredName } from '../store/names.ts';
import { MAX_HALF, MIN_HALF, StateRecord } from '../store/record.ts';
import type { DescriptorStore } from '../store/store.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { entriesFor, foldEntries } from './recorded-state.ts';
import { adminClientState, lockClientState } from './capture.ts';
import { adminClient, type LockClientState, lockClient } from './document.ts';
import { entry, EntryKind, type RecordedHold, recorder as recorderKind, type RecorderState } from './entries.ts';
import { RUNTIME_DESCRIPTORS } from './room.ts';

const log = logger('locking.lock_daemon');

/** How late refusals and counters may be recorded, in milliseconds. */
const LATE_MS = 250;
/** How long the manager is waited for when the daemon could not go on recording otherwise, in milliseconds. */
const URGENT_MS = 200;
/** How many snapshots a half of a new record has room for. */
const SPARE = 4;
/** Bytes of superseded entries that are not worth a snapshot. */
const SUPERSEDED = 64 * 1024;
/** A larger snapshot is made only when the record is full: it takes more than 10 ms. */
const MAX_SNAPSHOT = 1024 * 1024;
/** Bytes of an entry beside its text, at most. */
const ENTRY_SIZE = 12;

/** Pending input and output are not recorded: the next process disconnects a client that had any. */
const NOTHING_PENDING = {
  'x-received': undefined,
  'x-skip': undefined,
  'x-unsent': undefined,
  'x-closing': undefined,
  'x-waiting': undefined,
} as const;

export class Recorder implements FileKeeper, LockRecorder, EndRecorder, ClientRecorder {
  private readonly daemon: Daemon;
  private readonly store: DescriptorStore;
  private record: StateRecord;
  readonly identity: RecorderState;
  /** How many descriptors the manager takes. */
  limit: number;
  isKeeping = true;
  /** See {@link leave}. */
  private hasLeft = false;
  /** Recording has ended, by a failure or by {@link end}. */
  private hasFailed = false;
  /** The last entry of each server, admin client and the settings: these report no changes of their own, and are compared. */
  private readonly written = new Map<string, string>();
  /** {@link mortalFiles} has all of them. */
  hasCounted = false;
  /** See {@link mortalFiles}. */
  private readonly mortal = new Set<HeldFile>();
  /** When the processes of clients started, as far as it was asked. */
  private readonly starts = new WeakMap<LockClient, number>();
  private isLateDue = false;
  private isRewriteDue = false;
  private isRetryDue = false;
  /** With so many bytes of entries, it is worth to look how many are superseded. */
  private longest = SUPERSEDED;
  /** The last change was recorded by a snapshot. */
  private wroteSnapshot = false;
  /**
   * A death is not concluded yet: the record has what is still to be finished, and the daemon does not. So a snapshot would lose it, and
   * if this process died then, the next one would know nothing of it.
   */
  isConcluding = false;
  /** A larger record that is not in the store yet. */
  private next: StateRecord | null = null;
  /** Called when the record can no longer be written. */
  private readonly onFailure: () => void;

  /** Nothing is written before {@link begin}. */
  constructor(
    daemon: Daemon,
    store: DescriptorStore,
    record: StateRecord,
    identity: RecorderState,
    limit: number,
    onFailure: () => void = () => undefined,
  ) {
    this.daemon = daemon;
    this.store = store;
    this.record = record;
    this.identity = identity;
    this.limit = limit;
    this.onFailure = onFailure;
  }

  get descriptor(): number {
    return this.record.fd;
  }

  /** Bytes of memory that the record takes. */
  get memory(): number {
    return this.record.size;
  }

  /**
   * Begins to record all changes and to store new descriptors.
   *
   * @param isOnRecord the present state is recorded and stored already
   */
  begin(isOnRecord: boolean): void {
    const { daemon, store } = this;
    daemon.recorder = this;
    daemon.lockspaces.recorder = this;
    daemon.ownerReaper.recorder = this;
    if (isOnRecord) this.write(this.processEntry());
    else {
      this.countMortal();
      this.rewrite();
    }
    // Ahead of clients, which may fill the store. It may be a larger one by now.
    store.keep(this.record.fd, StoredKind.RECORD);
    if (isOnRecord) return;
    // Of another record, which was given up.
    for (const { file } of daemon.lockspaces.resources()) {
      if (file.lockKind === 'ofd' && file.fd >= 0) store.keep(file.fd, StoredKind.FILE);
    }
    this.keepAll();
  }

  /** Stores all descriptors but those of files, as far as there is room. */
  keepAll(): void {
    const { daemon, store } = this;
    for (const { listeners } of daemon.servers) {
      // systemd passes its own sockets again.
      for (const { fd, unlink } of listeners) if (unlink) store.keep(fd, StoredKind.LISTENER);
    }
    for (const { fd } of daemon.lockServer.adoptAll().values()) this.keep(fd, StoredKind.LOCK_CLIENT);
    for (const { fd } of daemon.adminServer.adoptAll().values()) this.keep(fd, StoredKind.ADMIN_CLIENT);
    this.keepWatched();
    this.keepHelpers();
    for (const end of daemon.ownerReaper.unfinished) this.endEntry(end);
  }

  /** Enters all held files in {@link mortalFiles} or removes them. Adopts what the previous process or program image has left. */
  countMortal(): void {
    this.hasCounted = true;
    for (const { file } of this.daemon.lockspaces.resources()) this.noteKind(file);
  }

  /** Stores nothing more until {@link resume}: the caller empties the store. */
  suspend(): void {
    this.isKeeping = false;
  }

  resume(): void {
    this.isKeeping = !this.hasFailed;
    // Some have come since.
    if (this.isKeeping) this.keepAll();
    this.rewriteSoon();
  }

  /** Gives connections these names, and none a call under way: the marks on record are of another process. */
  replaceBank(words: Uint32Array): void {
    // A larger record may have replaced the one that was found.
    const { record, store } = this;
    record.replaceBank(({ names }) => {
      names.set(words);
    });
    store.useWords(record.bank.names);
  }

  /** Has the poller mark in the record which connections have calls under way. */
  mark(): void {
    this.daemon.poller.useMarks(this.record.bank.marks, this.record.round);
  }

  /**
   * Stores systemd's sockets, too. Connections that wait there would be lost if systemd closed them before the next process has them, as a
   * restart of the socket units does.
   */
  keepListeners(): void {
    for (const { listeners } of this.daemon.servers) {
      for (const { fd } of listeners) this.store.keep(fd, StoredKind.LISTENER);
    }
  }

  /** Records that the process ends by itself, and leaves all to the next one. */
  leave(): void {
    this.hasLeft = true;
    // The process ends before its next turn.
    if (this.isRewriteDue) this.rewrite();
    else this.write(this.processEntry());
  }

  /** Ends recording, and invalidates the record. */
  end(): void {
    const { daemon } = this;
    if (this.hasFailed) return;
    this.hasFailed = true;
    this.isKeeping = false;
    daemon.poller.useMarks(null);
    daemon.recorder = NO_CLIENT_RECORDER;
    daemon.lockspaces.recorder = NO_LOCK_RECORDER;
    daemon.ownerReaper.recorder = NO_END_RECORDER;
    this.record.invalidate();
  }

  /** Held files whose locks would end with the process, because they are POSIX locks or lost. */
  get mortalFiles(): ReadonlySet<HeldFile> {
    return this.mortal;
  }

  // ---- files

  keeps(fd: number, stat: Stat): boolean {
    // The next process receives it beside the descriptors that it needs itself.
    const limit = Math.min(this.record.slots, this.daemon.descriptorLimit - RUNTIME_DESCRIPTORS);
    return this.isKeeping && fd < limit && this.store.takesFiles && isLocalFile(fd, stat);
  }

  locked(file: HeldFile): void {
    if (file.lockKind === 'ofd') this.store.keep(file.fd, StoredKind.FILE);
    else {
      this.store.nameFor(file.fd, StoredKind.FILE);
      this.noteKind(file);
    }
  }

  kindChanged(file: HeldFile): void {
    this.noteKind(file);
    // A storage helper has the descriptor, and its kind is its helper's affair. It may have got it back.
    if (file.remote !== null) this.rewriteSoon();
    else this.keepKind(file);
  }

  private keepKind(file: HeldFile): void {
    if (file.lockKind === 'ofd') this.store.keep(file.fd, StoredKind.FILE);
    else this.store.drop(file.fd);
    this.rewriteSoon();
  }

  private noteKind(file: HeldFile): void {
    // A storage helper's lock outlives the process with the helper's socket.
    // A lock in etcd outlives it with the lease.
    if (file.remote !== null || file.engine !== null || (file.lockKind === 'ofd' && file.fd >= 0))
      this.mortal.delete(file);
    else this.mortal.add(file);
  }

  releasing(): void {
    // Nothing to do: resourceReleasing has recorded it, and the descriptor stays stored while the file is locked.
  }

  unlocked(file: HeldFile): void {
    this.store.drop(file.fd);
  }

  gone(file: HeldFile): void {
    this.store.drop(file.fd);
    this.mortal.delete(file);
  }

  // ---- locks

  lockspaceAdded({ directory }: Lockspace): void {
    this.write(entry(EntryKind.LOCKSPACE, JSON.stringify(directory)));
  }

  holdGranted(resource: Resource, hold: Hold): void {
    const connection = this.daemon.lockServer.find(hold.client);
    const mark = connection === undefined ? 0 : this.daemon.poller.markOf(connection.fd);
    if (mark !== 0) {
      hold.round = mark >>> CallMark.ROUND_SHIFT;
      this.record.noteRound(hold.round);
    }
    if (resource.holdCount === 1) this.write(this.resourceEntry(resource));
    else this.write(entry(EntryKind.HOLD, ...keyOf(resource), holdText(hold)));
  }

  holdReplaced(resource: Resource, index: number, hold: Hold): void {
    this.write(entry(EntryKind.CHANGED, ...keyOf(resource), String(index), holdText(hold)));
  }

  holdsDropped(resource: Resource, indexes: readonly number[]): void {
    this.write(entry(EntryKind.DROPPED, ...keyOf(resource), JSON.stringify(indexes)));
  }

  resourceReleasing(resource: Resource): void {
    const text = entry(EntryKind.RELEASING, ...keyOf(resource));
    this.write(text);
    // A snapshot that was written in place of the entry has the resource, but not that it is being released.
    if (this.wroteSnapshot) this.write(text);
  }

  resourceReleased(resource: Resource): void {
    this.write(entry(EntryKind.RELEASED, ...keyOf(resource)));
  }

  lockChanged(resource: Resource): void {
    this.write(this.resourceEntry(resource));
  }

  acquireRefused(): void {
    this.writeLate();
  }

  // ---- ends of owners

  endBegan(end: OwnerEnd): void {
    this.write(this.endEntry(end));
    for (const resource of this.daemon.lockspaces.heldBy(end.pid)) {
      const pairs = resource.holds.flatMap((hold, index) => (hold.end === end ? [[index, end.id]] : []));
      if (pairs.length > 0) this.write(entry(EntryKind.ENDING, ...keyOf(resource), JSON.stringify(pairs)));
    }
  }

  endChanged(end: OwnerEnd): void {
    this.write(this.endEntry(end));
  }

  endDone({ id }: OwnerEnd): void {
    this.write(entry(EntryKind.ENDED, String(id)));
  }

  watchedChanged(): void {
    this.keepWatched();
    this.settingsChanged();
  }

  private keepWatched(): void {
    for (const { pidfd } of this.daemon.ownerReaper.watched)
      if (pidfd !== undefined) this.keep(pidfd, StoredKind.PIDFD);
  }

  helpersChanged(): void {
    this.keepHelpers();
    this.settingsChanged();
  }

  private keepHelpers(): void {
    const sockets = this.daemon.storages.state.map(({ socket }) => socket);
    for (const socket of [...sockets, ...(this.daemon.etcd?.keptSockets ?? [])]) {
      if (!this.store.isKept(socket)) this.makeRoom();
      this.keep(socket, StoredKind.STORAGE);
    }
  }

  closing(fd: number): void {
    this.store.drop(fd);
  }

  // ---- clients

  lockClientOpened(connection: Connection<LockClient>): void {
    this.keep(connection.fd, StoredKind.LOCK_CLIENT);
    this.write(this.lockClientEntry(connection));
  }

  adminClientOpened(connection: Connection<AdminPeer>): void {
    this.keep(connection.fd, StoredKind.ADMIN_CLIENT);
    this.write(this.adminClientEntry(connection));
  }

  lockClientChanged(connection: Connection<LockClient>): void {
    this.write(this.lockClientEntry(connection));
  }

  lockClientClosed(connection: Connection<LockClient>): void {
    this.clientClosed('virtlockd', connection);
  }

  adminClientClosed(connection: Connection<AdminPeer>): void {
    this.clientClosed('admin', connection);
    this.written.delete(adminKey(connection));
  }

  adminCallServed(connection: Connection<AdminPeer>): void {
    // Not of one that the call has ended.
    if (connection.isOpen) this.writeChanged(adminKey(connection), this.adminClientEntry(connection));
    this.settingsChanged([]);
  }

  /** Records what reports no changes of its own, as far as it has changed. */
  settingsChanged(clients: Iterable<Connection<AdminPeer>> = this.daemon.adminServer.adoptAll().values()): void {
    for (const server of this.daemon.servers) this.writeChanged(server.name, this.serverEntry(server));
    for (const connection of clients) this.writeChanged(adminKey(connection), this.adminClientEntry(connection));
    this.writeChanged(EntryKind.SETTINGS, this.settingsEntry());
  }

  private clientClosed(server: string, { fd, id, isSocketKept }: Connection): void {
    // The manager has a duplicate, so the close alone would send the peer no end of file.
    if (!isSocketKept) posix.shutdownSocket(fd);
    this.write(entry(EntryKind.LEFT, JSON.stringify(server), String(id)));
    if (!isSocketKept) this.store.drop(fd);
  }

  /** Stores a descriptor if there is room for it. Returns its name. */
  private keep(fd: number, kind: StoredKind): StoredName {
    const isClient = kind === StoredKind.LOCK_CLIENT || kind === StoredKind.ADMIN_CLIENT;
    const room = isClient ? this.limit - reserveOf(this.limit) : this.limit;
    const hasRoom = this.isKeeping && fd < this.record.slots && this.store.count < room;
    return hasRoom ? this.store.keep(fd, kind) : this.store.nameFor(fd, kind);
  }

  /** Takes the latest clients out of a full store for what costs locks if it is not stored: a client costs its connection alone. */
  private makeRoom(): void {
    if (this.store.count < this.limit) return;
    for (const { fd } of [...this.daemon.lockServer.adoptAll().values()].reverse()) {
      this.store.leaveOut(fd);
      if (this.store.count < this.limit) return;
    }
  }

  /** Records the end of a client that this process has not adopted. */
  clientLost(server: string, id: number): void {
    this.write(entry(EntryKind.LEFT, JSON.stringify(server), String(id)));
  }

  /** Records the end of a resource that this process has not adopted. */
  resourceLost(directory: ByteString, name: ByteString): void {
    this.write(entry(EntryKind.RELEASED, JSON.stringify(directory), JSON.stringify(name)));
  }

  // ---- the record

  private writeChanged(key: string, text: string): void {
    if (this.written.get(key) === text) return;
    this.written.set(key, text);
    this.write(text);
  }

  private writeLate(): void {
    if (this.isLateDue) return;
    this.isLateDue = true;
    setTimeout(() => {
      this.settingsChanged();
      this.dropSuperseded();
      this.isLateDue = false;
    }, LATE_MS).unref();
  }

  /** Deferred: many locks may change their kind in one round. */
  private rewriteSoon(): void {
    if (this.isRewriteDue) return;
    this.isRewriteDue = true;
    setImmediate(() => {
      this.isRewriteDue = false;
      this.rewrite();
    });
  }

  /** Keeps the entries few that the next process would read for nothing, while nobody is served. */
  private dropSuperseded(): void {
    if (this.hasFailed || this.isConcluding || this.record.length < this.longest) return;
    const texts = [...this.texts()];
    const length = lengthOf(texts);
    if (length * 2 <= this.record.length && length * 2 <= this.record.capacity) this.record.rewrite(texts);
    this.longest = length > MAX_SNAPSHOT ? Infinity : length * 2 + SUPERSEDED;
  }

  private rewriteLater(): void {
    if (this.isRetryDue) return;
    this.isRetryDue = true;
    setTimeout(() => {
      this.isRetryDue = false;
      this.rewrite();
    }, LATE_MS).unref();
  }

  private write(text: ByteString): void {
    const isFull = !this.hasFailed && !this.record.append(text);
    this.wroteSnapshot = isFull && !this.isConcluding;
    if (this.wroteSnapshot) this.rewrite();
    else if (isFull) this.replaceEntries([...entriesFor(foldEntries(this.record.entries())), text]);
    // The change has moved counters, too.
    this.writeLate();
  }

  /** Replaces the record's entries by a snapshot. */
  private rewrite(): void {
    if (!this.hasFailed) this.replaceEntries([...this.texts()]);
  }

  private replaceEntries(texts: readonly ByteString[]): void {
    const length = lengthOf(texts);
    // A snapshot of more than half of a half would soon be followed by the next one.
    if (length * 2 <= this.record.capacity && this.record.rewrite(texts)) return;
    this.enlarge(texts, length);
  }

  /** Moves to a larger record, which must be stored before the present one is invalidated. */
  private enlarge(texts: readonly string[], length: number): void {
    const made = this.makeNext(length);
    const isStored = (patience: number): boolean =>
      made !== null && this.store.keepNow(made.fd, StoredKind.RECORD, patience);
    if (made !== null && isStored(0)) this.replaceRecord(made, texts);
    // Retry later, and go on in the present record.
    else if (this.record.rewrite(texts)) this.rewriteLater();
    else if (made !== null && isStored(URGENT_MS)) this.replaceRecord(made, texts);
    else this.fail(made === null ? 'there is no memory for it' : 'the service manager does not take it');
  }

  /** Makes a larger record, or returns the one of the last attempt. Null when there is no memory for it. */
  private makeNext(length: number): StateRecord | null {
    if (this.next !== null && this.next.capacity >= length * 2) return this.next;
    this.forgetNext();
    const half = Math.max(MIN_HALF, 2 ** Math.ceil(Math.log2(length * SPARE)));
    if (half > MAX_HALF) return null;
    const { slots, generation } = this.record;
    const made = StateRecord.create({ half, slots, boot: this.identity.process.boot, generation: generation + 1 });
    if (typeof made === 'number') {
      log.error(`There is no memory for a larger state record: ${strerror(made)}`);
      return null;
    }
    this.next = made;
    this.makeRoom();
    return made;
  }

  private forgetNext(): void {
    if (this.next === null) return;
    this.store.drop(this.next.fd);
    posix.close(this.next.fd);
    this.next = null;
  }

  private replaceRecord(made: StateRecord, texts: readonly string[]): void {
    const before = this.record;
    this.next = null;
    // Before the entries: a reader rejects a record without entries.
    made.copyBank(before);
    made.rewrite(texts);
    this.record = made;
    // While a death is concluded, names are kept elsewhere, and those of the process that died are on record.
    if (this.store.hasWords(before.bank.names)) this.store.useWords(made.bank.names);
    this.daemon.poller.useMarks(made.bank.marks);
    before.invalidate();
    this.store.drop(before.fd);
    posix.close(before.fd);
  }

  private fail(reason: string): void {
    log.error(`The daemon no longer records its state, and locks would not outlive it: ${reason}`);
    this.giveUp();
    this.onFailure();
  }

  /**
   * Ends recording, and empties the store: duplicates would keep the peers of closed connections from an end of file. Whoever begins
   * another record stores all of it by other names.
   */
  giveUp(): void {
    this.forgetNext();
    this.end();
    this.store.end();
    posix.close(this.record.fd);
  }

  /** The entries of a snapshot. */
  *texts(): Generator<ByteString> {
    const { daemon } = this;
    yield this.processEntry();
    const { lockServer, adminServer, lockspaces, ownerReaper } = daemon;
    for (const server of daemon.servers) yield this.remember(server.name, this.serverEntry(server));
    for (const connection of lockServer.adoptAll().values()) yield this.lockClientEntry(connection);
    for (const connection of adminServer.adoptAll().values()) {
      yield this.remember(adminKey(connection), this.adminClientEntry(connection));
    }
    for (const { directory, resources } of lockspaces) {
      if (directory !== '') yield entry(EntryKind.LOCKSPACE, JSON.stringify(directory));
      for (const resource of resources.values()) yield this.resourceEntry(resource);
    }
    for (const end of ownerReaper.unfinished) yield this.endEntry(end);
    yield this.remember(EntryKind.SETTINGS, this.settingsEntry());
  }

  private remember(key: string, text: string): string {
    this.written.set(key, text);
    return text;
  }

  private processEntry(): ByteString {
    const { identity, hasLeft } = this;
    return entry(EntryKind.PROCESS, recorderKind.format({ ...identity, ...(hasLeft ? { hasLeft } : {}) }));
  }

  private serverEntry(server: Daemon['servers'][number]): ByteString {
    const head = this.named(serverKind, serverState(server), StoredKind.LISTENER);
    return entry(EntryKind.SERVER, JSON.stringify(server.name), serverKind.format(head));
  }

  private lockClientEntry(connection: Connection<LockClient>): ByteString {
    const state = this.clientState(lockClientState(connection), StoredKind.LOCK_CLIENT);
    return entry(EntryKind.CLIENT, '"virtlockd"', lockClient.format(state), String(this.startOf(connection)));
  }

  /**
   * When an owner's process started. Without a stored connection, which the manager may lose, the next process finds the owner's process
   * by its pid and this.
   */
  private startOf({ context, peer }: Connection<LockClient>): number | null {
    if (!context.isOwnerItself) return null;
    const known = context.peerStart ?? this.starts.get(context);
    if (known !== undefined) return known;
    const start = this.daemon.processes.startTime(peer.pid);
    // An unknown start time may be known the next time.
    if (typeof start === 'number') this.starts.set(context, start);
    return start ?? null;
  }

  private adminClientEntry(connection: Connection<AdminPeer>): ByteString {
    return entry(
      EntryKind.CLIENT,
      '"admin"',
      adminClient.format(this.clientState(adminClientState(connection), StoredKind.ADMIN_CLIENT)),
      'null',
    );
  }

  /** By a name, which it has even if it is not kept, it is known what of it was under way. */
  private clientState<S extends Pick<LockClientState, 'sock'>>(state: S, kind: StoredKind): S {
    return { ...state, ...NOTHING_PENDING, sock: { ...state.sock, fd: this.store.nameFor(state.sock.fd, kind) } };
  }

  /** Replaces the descriptor itself, because {@link named} is too slow for the many resources. */
  private resourceEntry(resource: Resource): ByteString {
    const fd = this.store.nameFor(resource.file.fd, StoredKind.FILE);
    const text = resourceKind.format({ ...bareResourceState(resource), fd });
    const holds = resource.holds.map(holdText).join();
    return entry(EntryKind.RESOURCE, JSON.stringify(resource.lockspace.directory), text, `[${holds}]`);
  }

  private endEntry(end: OwnerEnd): ByteString {
    const { socket, pidfd, ...state } = end.state;
    const kept = {
      ...state,
      ...(socket === undefined ? {} : { socket: this.keep(socket, StoredKind.LOCK_CLIENT) }),
      ...(pidfd === undefined ? {} : { pidfd: this.keep(pidfd, StoredKind.PIDFD) }),
    };
    return entry(EntryKind.END, ownerEnd.format(kept));
  }

  private settingsEntry(): ByteString {
    const state = this.named(changing, changingState(this.daemon), StoredKind.PIDFD);
    return entry(EntryKind.SETTINGS, changing.format(state));
  }

  /** The state with each descriptor replaced by its name in the store. */
  private named<T>(kind: Kind<T>, state: T, stored: StoredKind): T {
    return replaceDescriptors(kind.shape, state, (fd) => (fd < 0 ? fd : this.store.nameFor(fd, stored))) as T;
  }
}

/** Places of the store that clients leave: for a larger record, pidfds, and the sockets of storage helpers. */
function reserveOf(limit: number): number {
  return Number.isFinite(limit) ? Math.min(64, Math.floor(limit / 8)) : 0;
}

function keyOf({ lockspace, name }: Resource): [string, string] {
  return [JSON.stringify(lockspace.directory), JSON.stringify(name)];
}

function holdText(hold: Hold): string {
  const state: RecordedHold = { pid: hold.owner.pid, hold: holdState(hold), round: hold.round };
  return JSON.stringify(state);
}

function adminKey({ id }: Connection<AdminPeer>): string {
  return `admin ${id}`;
}

function lengthOf(texts: readonly ByteString[]): number {
  return texts.reduce((sum, text) => sum + text.length + ENTRY_SIZE, 0);
}
