/**
 * Takes over from a daemon that died, with the descriptors of the service manager's store, one of which is the record. {@link readDeath}
 * turns the record into a document, which is restored as after a restart. Then {@link conclude} finishes the interrupted calls.
 *
 * A connection with a call under way is closed, so that the caller gets an error and does not hang. That ends no owner. A hold that such
 * a call acquired is undone if no byte of the reply can have been sent. Else it stays.
 */
import { fstatSync } from 'node:fs';
import { constants } from 'node:os';
import type { Daemon } from '../daemon/daemon.ts';
import { own as ownKind } from '../daemon/state.ts';
import { EXIT, StartupError } from '../libvirt/exit.ts';
import { logger } from '../log/log.ts';
import { adoptFile, awaitAdoption, releaseFile } from '../lockspace/files.ts';
import type { KeptLock } from '../lockspace/files.ts';
import type { Hold } from '../lockspace/owner.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { modeOf } from '../lockspace/mode.ts';
import { Release } from '../lockspace/release.ts';
import { type HoldState, resource as resourceKind } from '../lockspace/state.ts';
import { CallMark, LockType, posix, SocketKind, strerror } from '../posix/posix.ts';
import { setLock } from '../posix/record-lock.ts';
import { bootId } from '../proc/kernel.ts';
import { descriptorLimits } from '../proc/limits.ts';
import { startTimeOf } from '../proc/identity.ts';
import { server as serverKind } from '../rpc/state.ts';
import type { registration } from '../lockd/state.ts';
import { descriptorsIn, type Json, type StateOf } from '../state/state.ts';
import { kindOf, serialOf, StoredKind, type StoredName } from '../store/names.ts';
import { discardQueue, filesIn } from '../store/in-flight.ts';
import { RecordError, StateRecord, usedPlaces } from '../store/record.ts';
import { type DescriptorStore, nameIn } from '../store/store.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { descriptorsOf, lockClient } from './document.ts';
import type { RecordedHold } from './entries.ts';
import { parseDocument } from './parse.ts';
import type { Predecessor } from './predecessor.ts';
import {
  foldEntries,
  isRemote,
  recordedDocument,
  type RecordedResource,
  type RecordedState,
} from './recorded-state.ts';
import type { Recorder } from './recorder.ts';
import { START_DESCRIPTORS } from './room.ts';

const log = logger('locking.lock_daemon');
const { EAGAIN, ENOMEM } = constants.errno;

/** The descriptors that outlived the daemon, by name: those that the manager has passed, and files in flight. */
type Stored = ReadonlyMap<StoredName, number>;

type Registration = StateOf<typeof registration>;

/** A client whose connection is not taken over. */
interface EndedClient {
  readonly server: ServerName;
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
  /** Of its connection, if that is known: its id, and the owner's name. */
  readonly client?: number;
  readonly name?: ByteString;
}

export interface Death extends JudgedHolds {
  readonly record: StateRecord;
  readonly stored: Stored;
  /** The queue of files. */
  readonly queue: number | undefined;
  readonly state: RecordedState;
  readonly predecessor: Predecessor;
  readonly ended: readonly EndedClient[];
  readonly owners: readonly LostOwner[];
  /** Connections that are not closed, because ends of owners that had begun refer to them. */
  readonly evidence: ReadonlySet<number>;
  /** Descriptors that the record does not mention, and systemd's sockets. */
  readonly strays: Stored;
  /** The servers of systemd's sockets, as a process that has left had them, by name. */
  readonly listeners: ReadonlyMap<StoredName, ServerName>;
}

type ServerName = 'virtlockd' | 'admin';

/** The holds that interrupted calls concern. */
interface JudgedHolds {
  readonly undone: readonly HoldPlace[];
  /** Their acquires may have been answered. */
  readonly unanswered: readonly HoldPlace[];
  /** Further ones of the same owners. */
  readonly repeatable: readonly HoldPlace[];
}

/** Listening sockets of systemd's own, which are not in the store. */
interface PassedListeners {
  readonly lock: readonly number[];
  readonly admin: readonly number[];
}

/**
 * Reads the record in the store. Logs why and returns null when there is none that can be used.
 *
 * @param passed by the manager
 * @throws StartupError when the process that wrote it is alive, or not all of it can be read at present
 */
export function readDeath(passed: Stored, listeners: PassedListeners): Death | null {
  const found = newestRecord(passed);
  if (found === null) return abandon(passed, listeners);
  const { record, state } = found;
  const { pid, process: written } = state.recorder;
  if (pid !== process.pid && startTimeOf(pid) === written.start)
    throw new StartupError(EXIT.initialize, `Process ${pid}, which has written the state record, is alive`);
  const queues = queuesIn(passed);
  const stored = new Map([...passed, ...openFiles(queues, found)]);
  try {
    return judge(record, state, stored, queues.at(-1), listeners);
  } catch (error) {
    log.error(`The state record cannot be used, and all locks are lost: ${(error as Error).message}`);
    return abandon(stored, listeners);
  }
}

/**
 * Opens the files in flight that the record names.
 *
 * @throws StartupError when some cannot be opened, or no descriptor would be left for the start. They stay in the store, and locked; a
 *   process that went on without them would release them.
 */
function openFiles(queues: readonly number[], { record, state }: FoundRecord): Stored {
  const files = filesIn(queues, new Set(fileNames(state)));
  let missing = 0;
  for (const fd of files.values()) if (fd < 0) missing++;
  if (missing === 0 && hasRoom(START_DESCRIPTORS, record.fd)) return files;
  for (const fd of files.values()) if (fd >= 0) posix.close(fd);
  const { soft } = descriptorLimits('self');
  const what = missing > 0 ? `${missing} of ${files.size} locked files cannot be opened` : 'none is left for the start';
  throw new StartupError(
    EXIT.initialize,
    `With at most ${soft} descriptors ${what}: their locks stay held in the descriptor store, and nobody is served until LimitNOFILE= is raised`,
  );
}

/** Whether a descriptor can be duplicated so many times. */
function hasRoom(count: number, of: number): boolean {
  const opened: number[] = [];
  while (opened.length < count) {
    const fd = posix.duplicate(of);
    if (fd < 0) break;
    opened.push(fd);
  }
  for (const fd of opened) posix.close(fd);
  return opened.length === count;
}

function* fileNames({ lockspaces }: RecordedState): Generator<StoredName> {
  for (const resources of lockspaces.values()) {
    for (const { state } of resources.values()) if (!isRemote(state)) yield state.fd as number;
  }
}

/** The older ones first. There are several if a daemon died soon after it had begun another record. */
function queuesIn(passed: Stored): number[] {
  return [...passed]
    .filter(([name]) => kindOf(name) === StoredKind.QUEUE)
    .sort(([one], [other]) => serialOf(one) - serialOf(other))
    .map(([, fd]) => fd);
}

/**
 * Closes all of it: peers see the end of their connections, and the sockets' paths can be bound again. Sockets at which systemd listens still
 * are not shut down: nobody could connect there any more.
 */
function abandon(stored: Stored, { lock, admin }: PassedListeners): null {
  const listening = [...lock, ...admin];
  for (const [name, fd] of stored) {
    if (kindOf(name) === StoredKind.QUEUE) discardQueue(fd);
    if (!listening.some((one) => isSameFile(one, fd))) posix.shutdownSocket(fd);
    posix.close(fd);
  }
  return null;
}

interface FoundRecord {
  readonly record: StateRecord;
  readonly state: RecordedState;
}

function newestRecord(stored: Stored): FoundRecord | null {
  const complaints: string[] = [];
  let newest: FoundRecord | null = null;
  for (const [name, fd] of stored) {
    if (kindOf(name) !== StoredKind.RECORD) continue;
    const memory = posix.mapMemory(fd);
    // Which says nothing about the record, and passes.
    if (memory === -ENOMEM)
      throw new StartupError(EXIT.initialize, `Cannot read the state record: ${strerror(memory)}`);
    try {
      const record = StateRecord.open(fd, bootId(), memory);
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

function judge(
  record: StateRecord,
  state: RecordedState,
  stored: Stored,
  queue: number | undefined,
  listeners: PassedListeners,
): Death {
  const marks = marksOf(record);
  const ending = endingNames(state);
  const ended: EndedClient[] = [];
  const owners: LostOwner[] = [];
  /** The marks of lock clients that are not taken over, by their ids. */
  const interrupted = new Map<number, number>();
  const registrations: Registration[] = [];
  for (const [server, { clients }] of [
    ['virtlockd', state.lockServer],
    ['admin', state.adminServer],
  ] as const) {
    for (const [id, { state: client, start }] of clients) {
      const name = (client.sock as { fd: number }).fd;
      const fd = stored.get(name);
      const mark = marks.get(name) ?? 0;
      if (fd !== undefined && mark === 0 && !ending.has(name)) continue;
      ended.push({ server, id, name, fd });
      clients.delete(id);
      if (server === 'admin') continue;
      interrupted.set(id, mark);
      const { 'x-local': isLocal, privateData } = lockClient.read(client);
      registrations.push(privateData);
      if (ending.has(name)) continue;
      const { ownerPid: pid, ownerId, ownerName } = privateData;
      const isItself =
        fd === undefined
          ? start !== null
          : posix.inspectSocket(fd, inspected) === SocketKind.CONNECTED && inspected[0] === pid;
      if (ownerId !== 0 && pid !== 0 && isLocal !== false && isItself)
        owners.push({ pid, fd, start, client: id, name: ownerName });
    }
  }
  const holds = judgeHolds(state, interrupted, registrations);
  const left = listenersIn(state);
  if (hasLostNewcomers(marks) || hasLostListeners(state, left, stored)) markRepeatable(state);
  keepKinds(state, stored);
  const json = recordedDocument(state, (name) => (left.has(name) ? undefined : stored.get(name)));
  listenWith(json, listeners);
  const document = parseDocument(json);
  const keys = new Set<string>();
  for (const { resources } of document.lockspaces) {
    for (const { 'x-inode': key } of resources) if (key !== undefined) keys.add(key);
  }
  awaitAdoption((key) => keys.has(key));
  const strays = straysOf(stored, new Set([record.fd, queue ?? -1, ...descriptorsOf(document)]), [
    ...ended.map(({ name }) => name),
    ...releasingNames(state),
  ]);
  return {
    record,
    stored,
    queue,
    strays,
    listeners: left,
    state,
    predecessor: { document, late: null, hasDied: true },
    ended,
    owners,
    evidence: new Set(document.own === null ? [] : descriptorsIn(ownKind, document.own)),
    ...holds,
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

/** Names of connections by which the ends of owners that have begun identify them. */
function endingNames({ ends, settings }: RecordedState): Set<StoredName> {
  const names = new Set((settings?.doubtful ?? []).map(({ socket }) => socket));
  for (const { socket } of ends.values()) if (typeof socket === 'number') names.add(socket);
  return names;
}

/** Call marks by the names of their connections. */
function marksOf({ bank: { marks, names } }: StateRecord): Map<StoredName, number> {
  const found = new Map<StoredName, number>();
  for (const fd of usedPlaces(marks)) {
    const name = nameIn(names[fd] ?? 0);
    if (name !== 0) found.set(name, marks[fd] ?? 0);
  }
  return found;
}

function markUnanswered(holds: RecordedHold[], index: number): void {
  const held = holds[index];
  if (held !== undefined) holds[index] = { ...held, hold: { ...held.hold, unanswered: true } };
}

/** Whether the process died between accepting connections and recording them: these are cut off. */
function hasLostNewcomers(marks: ReadonlyMap<StoredName, number>): boolean {
  return [...marks].some(([name, mark]) => mark !== 0 && kindOf(name) === StoredKind.LISTENER);
}

/**
 * Whether the process has left for a restart of systemd's sockets, perhaps, and the manager had no room for them: what waited there is cut
 * off.
 */
function hasLostListeners(
  { recorder }: RecordedState,
  left: ReadonlyMap<StoredName, unknown>,
  stored: Stored,
): boolean {
  return recorder.hasLeft === true && [...left.keys()].some((name) => !stored.has(name));
}

/**
 * Marks all exclusive holds as {@link Hold.unanswered}, where a newcomer's call may be lost that nobody knows of. If it was a release,
 * libvirt goes on as if it was done, and could never resume the guest. Not shared ones: another acquire of those is granted anyway, and
 * must count, for the owner may have two disks of one image. The marks are not recorded.
 */
function markRepeatable({ lockspaces }: RecordedState): void {
  for (const resources of lockspaces.values()) {
    for (const { holds, state } of resources.values()) {
      if (modeOf(resourceKind.read(state).flags).shared) continue;
      for (const index of holds.keys()) markUnanswered(holds, index);
    }
  }
}

/**
 * Decides on the holds of owners for whom interrupted clients acted. An acquire whose reply had not begun is undone. All others are marked
 * as {@link Hold.unanswered}: libvirt acquires or releases the locks on all disks of a guest through one connection, and gives up at the
 * first call that fails. So it may acquire again what it has acquired before that call, or has not released after it. A client that has not
 * registered yet may act for any owner.
 */
function judgeHolds(
  { lockspaces }: RecordedState,
  interrupted: ReadonlyMap<number, number>,
  registrations: readonly Registration[],
): JudgedHolds {
  const undone: HoldPlace[] = [];
  const unanswered: HoldPlace[] = [];
  const repeatable: HoldPlace[] = [];
  if (interrupted.size === 0) return { undone, unanswered, repeatable };
  for (const [directory, resources] of lockspaces) {
    for (const [name, found] of resources) {
      if (found.isReleasing) continue;
      for (const [index, { pid, hold, round }] of found.holds.entries()) {
        const mark = interrupted.get(hold.client) ?? 0;
        const isInterrupted = mark !== 0 && round === mark >>> CallMark.ROUND_SHIFT;
        if (isInterrupted && (mark & CallMark.BEGUN) === 0) undone.push({ directory, name, index });
        else if (registrations.some((one) => one.ownerId === 0 || isRegistrationOf(one, pid, hold))) {
          markUnanswered(found.holds, index);
          (isInterrupted ? unanswered : repeatable).push({ directory, name, index });
        }
      }
    }
  }
  return { undone, unanswered, repeatable };
}

function isRegistrationOf(one: Registration, pid: number, { id, name, uuid }: HoldState): boolean {
  return one.ownerPid === pid && one.ownerId === id && one.ownerName === name && one.ownerUUID === uuid;
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

/** systemd's sockets by name, which are not listened at any more: systemd may have others by now. */
function listenersIn({ lockServer, adminServer }: RecordedState): Map<StoredName, ServerName> {
  const found = new Map<StoredName, ServerName>();
  for (const [server, { head }] of [
    ['virtlockd', lockServer],
    ['admin', adminServer],
  ] as const) {
    for (const { fd, unlinkUNIX } of serverKind.read(head).services.flatMap(({ socks }) => socks)) {
      if (!unlinkUNIX) found.set(fd, server);
    }
  }
  return found;
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
  const { pid, deaths, started, hasLeft } = state.recorder;
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
  const what = hasLeft === true ? 'left' : 'died';
  return `The daemon with pid ${pid}, which served since ${new Date(started).toISOString()}, ${what}${times}: taking over ${locks} locks and ${clients} clients from the descriptor store${interrupted}${acquires}`;
}

/**
 * Finishes the interrupted calls and releases. The daemon is restored and serves no client yet. If this process dies at any step, the next
 * one finishes the rest.
 */
export function conclude(daemon: Daemon, death: Death, recorder: Recorder, store: DescriptorStore): void {
  const { state, stored } = death;
  const resourceAt = ({ directory, name }: HoldPlace): Resource | undefined =>
    daemon.lockspaces.find(directory)?.resources.get(name);
  for (const place of [...death.unanswered, ...death.repeatable]) {
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
  const kept = new Set(death.evidence);
  for (const owner of ownersToWatch(daemon, death)) {
    const socket = hungUpSocket(daemon, owner);
    if (socket === undefined) watchOwner(daemon, owner);
    else kept.add(socket);
  }
  // Before any connection is shut down: the next process could not tell whether its peer had hung up.
  recorder.watchedChanged();
  for (const { server, id, name, fd } of death.ended) {
    if (fd !== undefined) posix.shutdownSocket(fd);
    recorder.clientLost(server, id);
    if (fd === undefined || kept.has(fd)) continue;
    store.drop(fd);
    store.remove(name);
    posix.close(fd);
  }
  for (const [directory, resources] of state.lockspaces) {
    for (const [name, found] of resources)
      if (found.isReleasing && !isRemote(found.state)) finishRelease(daemon, directory, name, found, stored, recorder);
  }
}

/** Owners with locks and without a connection, whose end the daemon would not notice otherwise. */
function* ownersToWatch(
  { lockspaces, lockServer, ownerReaper }: Daemon,
  { owners, unanswered }: Death,
): Generator<LostOwner> {
  const seen = new Set<number>();
  for (const { context } of lockServer.adoptAll().values())
    if (context.isOwnerItself) seen.add(context.owner?.pid ?? 0);
  const candidates = [...owners];
  for (const { directory, name, index } of unanswered) {
    const owner = lockspaces.find(directory)?.resources.get(name)?.holds[index]?.owner;
    if (owner?.startTime === undefined || owner.isForeign === true) continue;
    candidates.push({ pid: owner.pid, fd: undefined, start: owner.startTime });
  }
  // One that an earlier process has begun to watch may have connected again since.
  const isWatched = ({ pid, client = 0 }: LostOwner): boolean =>
    ownerReaper.watched.some((known) => known.pid === pid && client <= (known.client ?? Infinity));
  for (const owner of candidates) {
    if (seen.has(owner.pid) || lockspaces.heldBy(owner.pid).size === 0 || isWatched(owner)) continue;
    seen.add(owner.pid);
    yield owner;
  }
}

/**
 * Begins the end of an owner that had hung up before the daemon died, and returns its socket, which stays open. Undefined for one that
 * has lost its connection by the death alone: that process may have been watched since an earlier one.
 */
function hungUpSocket({ ownerReaper }: Daemon, { pid, fd, start, client, name = '' }: LostOwner): number | undefined {
  if (fd === undefined || client === undefined || !posix.hasHungUp(fd, 1)) return undefined;
  ownerReaper.resumePeer({ pid, client, name, socket: fd, ...(start === null ? {} : { startTime: start }) });
  return fd;
}

/** Watches the owner's process, by the pidfd of its connection if the kernel gives that. */
function watchOwner({ ownerReaper, processes, lockServer }: Daemon, { pid, fd, start }: LostOwner): void {
  const pidfd = fd === undefined ? -1 : processes.peerPidfd(fd);
  ownerReaper.watch({
    pid,
    client: lockServer.nextClientId - 1,
    ...(pidfd < 0 ? {} : { pidfd }),
    ...(start === null ? {} : { startTime: start }),
  });
}

function finishRelease(
  { lockspaces }: Daemon,
  directory: ByteString,
  name: ByteString,
  { state }: RecordedResource,
  stored: Stored,
  recorder: Recorder,
): void {
  const { fd: stays, path, flags, 'x-inode': key } = resourceKind.read(state);
  const fd = stored.get(stays);
  const mode = modeOf(flags);
  const file = fd === undefined ? null : adoptFile(fd, mode.shared, key, 'ofd');
  if (fd !== undefined && file !== null) {
    // If another process has the lock, the name is that process's lease.
    const isLocked = setLock('ofd', fd, mode.shared ? LockType.READ : LockType.WRITE) === 0;
    const lockspace = lockspaces.find(directory);
    if (lockspace !== undefined && mode.autocreate && isLocked && file.references === 1) {
      // Its file system may be frozen.
      lockspaces.restoreResource(lockspace, name, path, mode, file, [], new Release(0, true));
      return;
    }
    releaseFile(file, directory, name, mode.autocreate && isLocked, recorder);
  }
  recorder.resourceLost(directory, name);
}

/**
 * Handles descriptors that are stored and not recorded. A connection that is still connected had just been accepted, and becomes a client;
 * so do connections that wait at a socket which systemd had. One that is shut down was about to be closed, and is closed.
 */
export function adoptStrays(daemon: Daemon, { strays, listeners }: Death, store: DescriptorStore): void {
  const servers = { virtlockd: daemon.lockServer, admin: daemon.adminServer };
  const kinds = new Map<number, Server>([
    [StoredKind.LOCK_CLIENT, servers.virtlockd],
    [StoredKind.ADMIN_CLIENT, servers.admin],
  ]);
  for (const [name, fd] of strays) {
    const server = kinds.get(kindOf(name));
    if (server !== undefined && posix.inspectSocket(fd, inspected) === SocketKind.CONNECTED && store.adopt(fd, name)) {
      accepted(server, fd);
      continue;
    }
    const listening = listeners.get(name);
    if (kindOf(name) === StoredKind.LISTENER && posix.inspectSocket(fd, inspected) === SocketKind.LISTENING) {
      const former = listening === undefined ? serverAt(daemon, fd) : servers[listening];
      if (former !== undefined && adoptListener(daemon.poller, former, name, fd, store)) continue;
    }
    store.remove(name);
    posix.close(fd);
  }
}

type Server = Daemon['servers'][number];

/** The server of a socket that a process has stored which was not the last one: by its path. */
function serverAt({ servers }: Daemon, fd: number): Server | undefined {
  const bound = posix.socketPath(fd);
  return bound === null ? undefined : servers.find(({ listeners }) => listeners.some(({ path }) => path === bound));
}

/** Sockets of one server that are listened at, at most: the poller has a limit. */
const MAX_LISTENERS = 6;

/**
 * Accepts what waits at a socket, unless the daemon listens there still. Where the limit on clients or on descriptors leaves some waiting, the
 * server listens there, too. Returns whether the descriptor is in use.
 */
function adoptListener(
  poller: Daemon['poller'],
  server: Server,
  name: StoredName,
  fd: number,
  store: DescriptorStore,
): boolean {
  if (server.listeners.some((known) => isSameFile(known.fd, fd))) return false;
  const isNamed = store.adopt(fd, name);
  posix.setNonblocking(fd);
  poller.newcomersAt(fd);
  const isDone = acceptAll(server, fd);
  poller.inputConsumed(fd, false);
  if (!isDone && isNamed && server.listeners.length < MAX_LISTENERS) {
    server.addListener({ fd, path: posix.socketPath(fd), unlink: false });
    return true;
  }
  if (!isNamed) return false;
  store.drop(fd);
  posix.close(fd);
  return true;
}

/** Whether none is left waiting. */
function acceptAll(server: Server, listener: number): boolean {
  while (server.clientCount < server.maxClients) {
    const fd = posix.accept(listener);
    if (fd < 0) return fd === -EAGAIN;
    if (posix.inspectSocket(fd, inspected) === SocketKind.CONNECTED) accepted(server, fd);
    else posix.close(fd);
  }
  return false;
}

function isSameFile(one: number, other: number): boolean {
  const [first, second] = [fstatSync(one), fstatSync(other)];
  return first.ino === second.ino && first.dev === second.dev;
}

/** @param fd a connection whose peer has just been inspected */
function accepted(server: Server, fd: number): void {
  const [pid = 0, uid = 0, gid = 0] = inspected;
  server.onAccept(fd, pid, uid >>> 0, gid >>> 0);
}
