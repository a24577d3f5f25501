/**
 * Takes over from a daemon that died, with the descriptors of the service manager's store, one of which is the record. {@link readDeath}
 * turns the record into a document, which is restored as after a restart. Then {@link conclude} finishes the interrupted calls.
 *
 * A connection with a call under way is closed, so that the caller gets an error and does not hang. That ends no owner. A hold that such
 * a call acquired is undone if no byte of the reply can have been sent. Else it stays.
 */
import { constants } from 'node:os';
import type { Daemon } from '../daemon/daemon.ts';
import { EXIT, StartupError } from '../libvirt/exit.ts';
import { logger } from '../log/log.ts';
import { adoptFile, awaitAdoption, releaseFile } from '../lockspace/files.ts';
import type { KeptLock } from '../lockspace/files.ts';
import type { Hold } from '../lockspace/owner.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { modeOf } from '../lockspace/mode.ts';
import { resource as resourceKind } from '../lockspace/state.ts';
import { CallMark, LockType, posix, SocketKind } from '../posix/posix.ts';
import { setLock } from '../posix/record-lock.ts';
import { bootId } from '../proc/kernel.ts';
import { startTimeOf } from '../proc/identity.ts';
import type { Json } from '../state/state.ts';
import { kindOf, StoredKind, type StoredName } from '../store/names.ts';
import { RecordError, StateRecord } from '../store/record.ts';
import { type DescriptorStore, nameIn } from '../store/store.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { descriptorsOf, lockClient } from './document.ts';
import { parseDocument } from './parse.ts';
import type { Predecessor } from './predecessor.ts';
import { foldEntries, recordedDocument, type RecordedResource, type RecordedState } from './recorded-state.ts';
import type { Recorder } from './recorder.ts';

const log = logger('locking.lock_daemon');
const { ESRCH } = constants.errno;

/** The descriptors that the manager has passed from its store, by name. */
type Stored = ReadonlyMap<StoredName, number>;

/** A client whose connection is not taken over. */
interface EndedClient {
  readonly server: 'virtlockd' | 'admin';
  readonly id: number;
  readonly name: StoredName;
  /** Undefined: it was not in the store. */
  readonly fd: number | undefined;
}

/** A hold's place in the document. */
interface HoldPlace {
  readonly directory: ByteString;
  readonly name: ByteString;
  readonly index: number;
}

/** An owner whose own connection is not taken over. */
interface LostOwner {
  readonly pid: number;
  readonly fd: number | undefined;
  readonly start: number | null;
}

export interface Death {
  readonly record: StateRecord;
  readonly stored: Stored;
  readonly state: RecordedState;
  readonly predecessor: Predecessor;
  readonly ended: readonly EndedClient[];
  readonly owners: readonly LostOwner[];
  readonly undone: readonly HoldPlace[];
  readonly unanswered: readonly HoldPlace[];
  /** Descriptors that the record does not mention. */
  readonly strays: Stored;
}

/** Listening sockets of systemd's own, which are not in the store. */
interface PassedListeners {
  readonly lock: readonly number[];
  readonly admin: readonly number[];
}

/**
 * Reads the record in the store. Logs why and returns null when there is none that can be used.
 *
 * @throws StartupError when the process that wrote it is alive
 */
export function readDeath(stored: Stored, listeners: PassedListeners): Death | null {
  const found = newestRecord(stored);
  if (found === null) return abandon(stored);
  const { record, state } = found;
  const { pid, process: written } = state.recorder;
  if (pid !== process.pid && startTimeOf(pid) === written.start)
    throw new StartupError(EXIT.initialize, `Process ${pid}, which has written the state record, is alive`);
  try {
    return judge(record, state, stored, listeners);
  } catch (error) {
    log.error(`The state record cannot be used, and all locks are lost: ${(error as Error).message}`);
    return abandon(stored);
  }
}

/** Closes all of it: peers see the end of their connections, and the sockets' paths can be bound again. */
function abandon(stored: Stored): null {
  for (const fd of stored.values()) {
    posix.shutdownSocket(fd);
    posix.close(fd);
  }
  return null;
}

function newestRecord(stored: Stored): { readonly record: StateRecord; readonly state: RecordedState } | null {
  const complaints: string[] = [];
  let newest: { readonly record: StateRecord; readonly state: RecordedState } | null = null;
  for (const [name, fd] of stored) {
    if (kindOf(name) !== StoredKind.RECORD) continue;
    try {
      const record = StateRecord.open(fd, bootId());
      const state = foldEntries(record.entries());
      if (newest === null || record.generation > newest.record.generation) newest = { record, state };
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      complaints.push(error.message);
    }
  }
  if (newest === null) {
    const reason = complaints.length === 0 ? 'there is none' : complaints.join('; ');
    log.error(`The state record cannot be used, and all locks are lost: ${reason}`);
  }
  return newest;
}

const inspected = new Int32Array(3);

function judge(record: StateRecord, state: RecordedState, stored: Stored, listeners: PassedListeners): Death {
  const marks = marksOf(record);
  const ended: EndedClient[] = [];
  const owners: LostOwner[] = [];
  /** The marks of lock clients that are not taken over, by their ids. */
  const interrupted = new Map<number, number>();
  for (const [server, { clients }] of [
    ['virtlockd', state.lockServer],
    ['admin', state.adminServer],
  ] as const) {
    for (const [id, { state: client, start }] of clients) {
      const name = (client.sock as { fd: number }).fd;
      const fd = stored.get(name);
      const mark = marks.get(name) ?? 0;
      if (fd !== undefined && mark === 0) continue;
      ended.push({ server, id, name, fd });
      clients.delete(id);
      if (server === 'admin') continue;
      interrupted.set(id, mark);
      const { 'x-local': isLocal, privateData } = lockClient.read(client);
      const { ownerPid: pid, ownerId } = privateData;
      const isItself =
        fd === undefined
          ? start !== null
          : posix.inspectSocket(fd, inspected) === SocketKind.CONNECTED && inspected[0] === pid;
      if (ownerId !== 0 && pid !== 0 && isLocal !== false && isItself) owners.push({ pid, fd, start });
    }
  }
  const { undone, unanswered } = judgeHolds(state, interrupted);
  keepKinds(state, stored);
  const json = recordedDocument(state, (name) => stored.get(name));
  listenWith(json, listeners);
  const document = parseDocument(json);
  const keys = new Set<string>();
  for (const { resources } of document.lockspaces) {
    for (const { 'x-inode': key } of resources) if (key !== undefined) keys.add(key);
  }
  awaitAdoption((key) => keys.has(key));
  const strays = straysOf(stored, new Set([record.fd, ...descriptorsOf(document)]), [
    ...ended.map(({ name }) => name),
    ...releasingNames(state),
  ]);
  return {
    record,
    stored,
    strays,
    state,
    predecessor: { document, late: null, hasDied: true },
    ended,
    owners,
    undone,
    unanswered,
  };
}

function straysOf(stored: Stored, known: ReadonlySet<number>, names: Iterable<StoredName>): Stored {
  const strays = new Map([...stored].filter(([, fd]) => !known.has(fd)));
  for (const name of names) strays.delete(name);
  return strays;
}

function* releasingNames({ lockspaces }: RecordedState): Generator<StoredName> {
  for (const resources of lockspaces.values()) {
    for (const { state, isReleasing } of resources.values()) if (isReleasing) yield state.fd as number;
  }
}

/** Call marks by the names of their connections. */
function marksOf({ bank: { marks, names } }: StateRecord): Map<StoredName, number> {
  const found = new Map<StoredName, number>();
  for (const [fd, mark] of marks.entries()) {
    const name = nameIn(names[fd] ?? 0);
    if (mark !== 0 && name !== 0) found.set(name, mark);
  }
  return found;
}

/** Decides on the holds of acquires that may be unanswered: undone, or kept and marked as such. */
function judgeHolds(
  { lockspaces }: RecordedState,
  interrupted: ReadonlyMap<number, number>,
): Pick<Death, 'undone' | 'unanswered'> {
  const undone: HoldPlace[] = [];
  const unanswered: HoldPlace[] = [];
  for (const [directory, resources] of lockspaces) {
    for (const [name, found] of resources) {
      if (found.isReleasing) continue;
      for (const [index, { hold, round, ...rest }] of found.holds.entries()) {
        const mark = interrupted.get(hold.client) ?? 0;
        if (mark === 0 || round !== mark >>> CallMark.ROUND_SHIFT) continue;
        if ((mark & CallMark.BEGUN) === 0) undone.push({ directory, name, index });
        else {
          found.holds[index] = { ...rest, round, hold: { ...hold, unanswered: true } };
          unanswered.push({ directory, name, index });
        }
      }
    }
  }
  return { undone, unanswered };
}

/** A stored file has an OFD lock, whatever its entry says: the kind may have changed since. */
function keepKinds({ lockspaces }: RecordedState, stored: Stored): void {
  for (const resources of lockspaces.values()) {
    for (const { state } of resources.values()) {
      if (stored.has(state.fd as number)) state['x-lock'] ??= 'ofd' satisfies KeptLock;
      else delete state['x-lock'];
    }
  }
}

interface ServerJson {
  services: { socks: { fd: number }[] }[];
}

/** Drops listeners that the store did not return, and adds systemd's own. */
function listenWith(json: Json, { lock, admin }: PassedListeners): void {
  const { servers } = json.daemon as { servers: Record<'virtlockd' | 'admin', ServerJson> };
  for (const [server, fds] of [
    [servers.virtlockd, lock],
    [servers.admin, admin],
  ] as const) {
    for (const service of server.services) service.socks = service.socks.filter(({ fd }) => fd >= 0);
    server.services.push(...fds.map((fd) => ({ ...SERVICE, socks: [{ ...SOCKET, fd }] })));
  }
}

const SERVICE = { auth: 0, readonly: false, nrequests_client_max: 1 } as const;
const SOCKET = { errfd: -1, pid: 0, isClient: false, unlinkUNIX: false } as const;

/** The line for the log. */
export function deathText({ state, ended, undone, unanswered }: Death): string {
  const { pid, deaths, started } = state.recorder;
  let locks = 0;
  for (const resources of state.lockspaces.values()) locks += resources.size;
  const clients = state.lockServer.clients.size + state.adminServer.clients.size;
  const interrupted =
    ended.length === 0
      ? ''
      : `; ${ended.length} clients are disconnected, for they had calls under way or were not kept`;
  const calls = undone.length + unanswered.length;
  const acquires = calls === 0 ? '' : `; of ${calls} acquires among these calls ${undone.length} are undone`;
  const times = deaths === 0 ? '' : `, after ${deaths} others`;
  return `The daemon with pid ${pid}, which served since ${new Date(started).toISOString()}, died${times}: taking over ${locks} locks and ${clients} clients from the descriptor store${interrupted}${acquires}`;
}

/**
 * Finishes the interrupted calls and releases. The daemon is restored and serves no client yet. If this process dies at any step, the next
 * one finishes the rest.
 */
export function conclude(daemon: Daemon, death: Death, recorder: Recorder, store: DescriptorStore): void {
  const { state, stored } = death;
  const resourceAt = ({ directory, name }: HoldPlace): Resource | undefined =>
    daemon.lockspaces.find(directory)?.resources.get(name);
  for (const place of death.unanswered) {
    const found = resourceAt(place);
    const hold = found?.holds[place.index];
    if (found !== undefined && hold !== undefined) recorder.holdReplaced(found, place.index, hold);
  }
  const undone = death.undone.flatMap((place): (readonly [Resource, Hold])[] => {
    const found = resourceAt(place);
    const hold = found?.holds[place.index];
    return found === undefined || hold === undefined ? [] : [[found, hold]];
  });
  for (const [found, hold] of undone) daemon.lockspaces.undo(found, hold);
  for (const owner of ownersToWatch(daemon, death)) watchOwner(daemon, owner);
  recorder.watchedChanged();
  for (const { server, id, name, fd } of death.ended) {
    if (fd !== undefined) posix.shutdownSocket(fd);
    recorder.clientLost(server, id);
    if (fd === undefined) continue;
    store.drop(fd);
    store.remove(name);
    posix.close(fd);
  }
  for (const [directory, resources] of state.lockspaces) {
    for (const [name, found] of resources)
      if (found.isReleasing) finishRelease(directory, name, found, stored, recorder);
  }
}

/** Owners with locks and without a connection, whose end the daemon would not notice otherwise. */
function* ownersToWatch({ lockspaces, lockServer }: Daemon, { owners, unanswered }: Death): Generator<LostOwner> {
  const seen = new Set<number>();
  for (const { context } of lockServer.adoptAll().values())
    if (context.isOwnerItself) seen.add(context.owner?.pid ?? 0);
  const candidates = [...owners];
  for (const { directory, name, index } of unanswered) {
    const owner = lockspaces.find(directory)?.resources.get(name)?.holds[index]?.owner;
    if (owner?.startTime === undefined || owner.isForeign === true) continue;
    candidates.push({ pid: owner.pid, fd: undefined, start: owner.startTime });
  }
  for (const owner of candidates) {
    if (seen.has(owner.pid) || lockspaces.heldBy(owner.pid).size === 0) continue;
    seen.add(owner.pid);
    yield owner;
  }
}

/** Until the next attempt to identify an owner's process, in milliseconds. */
const AGAIN_MS = 1000;

/** Watches the owner's process. Without its pidfd or start time it is not watched, for the pid may be another process's by now. */
function watchOwner(daemon: Daemon, owner: LostOwner): void {
  const { ownerReaper, processes } = daemon;
  const { pid, fd, start } = owner;
  const peer = fd === undefined ? -1 : processes.peerPidfd(fd);
  if (peer >= 0) ownerReaper.watch(pid, peer);
  if (peer >= 0 || start === null) return;
  const pidfd = processes.openPidfd(pid);
  // Read after the pidfd was opened: a start time that is right now was right then.
  const present = pidfd === -ESRCH ? null : processes.startTime(pid);
  if (pidfd >= 0 && present === start) {
    ownerReaper.watch(pid, pidfd);
    return;
  }
  if (pidfd >= 0) processes.close(pidfd);
  if (present === undefined || (pidfd < 0 && pidfd !== -ESRCH)) {
    processes.setTimeout(() => {
      watchOwner(daemon, { pid, fd: undefined, start });
    }, AGAIN_MS);
  } else ownerReaper.gone(pid, start);
}

function finishRelease(
  directory: ByteString,
  name: ByteString,
  { state }: RecordedResource,
  stored: Stored,
  recorder: Recorder,
): void {
  const { fd: stays, flags, 'x-inode': key } = resourceKind.read(state);
  const fd = stored.get(stays);
  const mode = modeOf(flags);
  const file = fd === undefined ? null : adoptFile(fd, mode.shared, key, 'ofd');
  if (fd !== undefined && file !== null) {
    // If another process has the lock, the name is that process's lease.
    const isLocked = setLock('ofd', fd, mode.shared ? LockType.READ : LockType.WRITE) === 0;
    releaseFile(file, directory, name, mode.autocreate && isLocked, recorder);
  }
  recorder.resourceLost(directory, name);
}

/**
 * Handles descriptors that are stored and not recorded. A connection that is still connected had just been accepted, and becomes a client.
 * One that is shut down was about to be closed. All but the former are closed.
 */
export function adoptStrays(daemon: Daemon, { strays }: Death, store: DescriptorStore): void {
  const servers = new Map<number, Daemon['servers'][number]>([
    [StoredKind.LOCK_CLIENT, daemon.lockServer],
    [StoredKind.ADMIN_CLIENT, daemon.adminServer],
  ]);
  for (const [name, fd] of strays) {
    const server = servers.get(kindOf(name));
    if (server !== undefined && posix.inspectSocket(fd, inspected) === SocketKind.CONNECTED && store.adopt(fd, name)) {
      const [pid = 0, uid = 0, gid = 0] = inspected;
      server.onAccept(fd, pid, uid >>> 0, gid >>> 0);
    } else {
      store.remove(name);
      posix.close(fd);
    }
  }
}
