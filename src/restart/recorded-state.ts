/** Folds the entries of a record into the state of the daemon that wrote them. */
import { ownerEnd } from '../lockd/state.ts';
import { resource } from '../lockspace/state.ts';
import { server } from '../rpc/state.ts';
import {
  beginReading,
  type Json,
  list,
  readList,
  readObject,
  replaceDescriptors,
  text,
  whole,
} from '../state/state.ts';
import type { EndedHelperState, HelperState } from '../storage/state.ts';
import { RecordError } from '../store/record.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { changing, type ChangingState } from '../daemon/state.ts';
import { adminClient, lockClient } from './document.ts';
import { entry, EntryKind, recordedHold, type RecordedHold, recorder, type RecorderState } from './entries.ts';

/** A client's last entry: its state, and its process's start time or null. */
interface RecordedClient {
  readonly state: Json;
  readonly start: number | null;
}

interface RecordedServer {
  head: Json | null;
  /** By id, in the order of their first entries. */
  readonly clients: Map<number, RecordedClient>;
  /** The id of the next client. */
  nextId: number;
}

export class RecordedResource {
  /** Without its holds. */
  readonly state: Json;
  /** Its last hold is released. The process died before, while or after it unlinked and unlocked the file. */
  isReleasing = false;
  private readonly unread: unknown;
  private read: RecordedHold[] | null = null;

  constructor(state: Json, holds: unknown) {
    this.state = state;
    this.unread = holds;
  }

  /** Read on demand: most are not changed, and are read once more as part of the document, while nobody is served. */
  get holds(): RecordedHold[] {
    return (this.read ??= readList(this.unread, recordedHold.read));
  }

  set holds(holds: RecordedHold[]) {
    this.read = holds;
  }

  /** The holds as part of a state document, in JSON. */
  get json(): Pick<Json, 'owners' | 'x-holds'> {
    const holds: readonly { readonly pid?: unknown; readonly hold?: unknown }[] =
      this.read ?? readList(this.unread, readObject);
    return { owners: holds.map(({ pid }) => pid), 'x-holds': holds.map(({ hold }) => hold) };
  }
}

export interface RecordedState {
  readonly recorder: RecorderState;
  readonly settings: ChangingState | null;
  readonly lockServer: RecordedServer;
  readonly adminServer: RecordedServer;
  /** By directory, the default one first; in each, by name. */
  readonly lockspaces: ReadonlyMap<ByteString, Map<ByteString, RecordedResource>>;
  /** By id. */
  readonly ends: ReadonlyMap<number, Json>;
}

const indexes = list(whole);

/** @throws RecordError, also for an entry that does not parse */
export function foldEntries(entries: Iterable<string>): RecordedState {
  const fold = new Fold();
  for (const some of batches(entries)) {
    try {
      for (const parsed of JSON.parse(`[${some.join()}]`) as readonly unknown[]) {
        beginReading();
        if (!Array.isArray(parsed)) throw new RecordError('an entry is no list');
        const [kind, ...parts] = parsed as readonly unknown[];
        fold.add(kind, parts);
      }
    } catch (error) {
      throw error instanceof RecordError
        ? error
        : new RecordError(`an entry does not parse: ${(error as Error).message}`);
    }
  }
  return fold.result();
}

/** Entries that are parsed at once, which takes half the time of as many calls. */
const BATCH = 128;

function* batches(entries: Iterable<string>): Generator<readonly string[]> {
  let some: string[] = [];
  for (const one of entries) {
    some.push(one);
    if (some.length < BATCH) continue;
    yield some;
    some = [];
  }
  yield some;
}

/** A later entry may replace a client or resource. So the caller reads these in full, once all entries are folded. */
class Fold {
  private recorder: RecorderState | null = null;
  private settings: ChangingState | null = null;
  private readonly servers = { virtlockd: emptyServer(), admin: emptyServer() };
  private readonly lockspaces = new Map<ByteString, Map<ByteString, RecordedResource>>([['', new Map()]]);
  private readonly ends = new Map<number, Json>();

  add(kind: unknown, parts: readonly unknown[]): void {
    switch (kind) {
      case EntryKind.PROCESS:
        this.recorder = recorder.read(parts[0]);
        break;
      case EntryKind.SERVER:
        this.setHead(this.serverOf(parts[0]), parts[1]);
        break;
      case EntryKind.CLIENT:
        this.setClient(parts);
        break;
      case EntryKind.LEFT:
        this.serverOf(parts[0]).clients.delete(whole.read(parts[1]));
        break;
      case EntryKind.LOCKSPACE:
        this.lockspaceOf(parts[0]);
        break;
      case EntryKind.RESOURCE:
        this.setResource(parts);
        break;
      case EntryKind.RELEASED:
        this.lockspaceOf(parts[0]).delete(text.read(parts[1]));
        break;
      case EntryKind.END: {
        const end = readObject(parts[0]);
        this.ends.set(ownerEnd.read(end).id, end);
        break;
      }
      case EntryKind.ENDED:
        this.ends.delete(whole.read(parts[0]));
        break;
      case EntryKind.SETTINGS:
        this.settings = changing.read(parts[0]);
        break;
      default:
        this.changeResource(kind, this.resourceOf(parts), parts.slice(2));
    }
  }

  result(): RecordedState {
    const { recorder, settings, servers, lockspaces, ends } = this;
    if (recorder === null || servers.virtlockd.head === null || servers.admin.head === null)
      throw new RecordError('its entry of the process or of a server is missing');
    return { recorder, settings, lockServer: servers.virtlockd, adminServer: servers.admin, lockspaces, ends };
  }

  private serverOf(name: unknown): RecordedServer {
    if (name === 'virtlockd' || name === 'admin') return this.servers[name];
    throw new RecordError('it names an unknown server');
  }

  private setHead(recorded: RecordedServer, head: unknown): void {
    recorded.head = readObject(head);
    recorded.nextId = Math.max(recorded.nextId, server.read(head).next_client_id);
  }

  private setClient([name, value, start]: readonly unknown[]): void {
    const recorded = this.serverOf(name);
    const state = readObject(value);
    const id = whole.read(state.id);
    recorded.clients.set(id, { state, start: start === null ? null : whole.read(start) });
    recorded.nextId = Math.max(recorded.nextId, id + 1);
  }

  private lockspaceOf(value: unknown): Map<ByteString, RecordedResource> {
    const directory = text.read(value);
    const known = this.lockspaces.get(directory);
    if (known !== undefined) return known;
    const made = new Map<ByteString, RecordedResource>();
    this.lockspaces.set(directory, made);
    return made;
  }

  private setResource([directory, value, holds]: readonly unknown[]): void {
    const state = readObject(value);
    this.lockspaceOf(directory).set(text.read(state.name), new RecordedResource(state, holds));
  }

  private resourceOf([directory, name]: readonly unknown[]): RecordedResource {
    const found = this.lockspaceOf(directory).get(text.read(name));
    if (found === undefined) throw new RecordError('it changes an unknown resource');
    return found;
  }

  private changeResource(kind: unknown, found: RecordedResource, parts: readonly unknown[]): void {
    const { holds } = found;
    switch (kind) {
      case EntryKind.HOLD:
        holds.push(recordedHold.read(parts[0]));
        break;
      case EntryKind.CHANGED:
        holds[existing(holds, parts[0])] = recordedHold.read(parts[1]);
        break;
      case EntryKind.ENDING:
        for (const pair of readList(parts[0], indexes.read)) setEnding(holds, pair);
        break;
      case EntryKind.DROPPED: {
        const [first, ...others] = indexes.read(parts[0]).map((one) => existing(holds, one));
        // Most entries drop one. There may be very many of these, and of holds.
        if (first !== undefined && others.length === 0) holds.splice(first, 1);
        else {
          const gone = new Set([first, ...others]);
          found.holds = holds.filter((_, at) => !gone.has(at));
        }
        break;
      }
      case EntryKind.RELEASING:
        found.isReleasing = true;
        break;
      default:
        throw new RecordError('it has an entry of an unknown kind');
    }
  }
}

/** The fewest entries that fold into the state. */
export function* entriesFor(state: RecordedState): Generator<ByteString> {
  const { recorder: writer, settings: own, lockServer, adminServer, lockspaces, ends } = state;
  yield entry(EntryKind.PROCESS, recorder.format(writer));
  for (const [name, { head, clients, nextId }] of [
    ['"virtlockd"', lockServer],
    ['"admin"', adminServer],
  ] as const) {
    yield entry(EntryKind.SERVER, name, JSON.stringify({ ...head, next_client_id: nextId }));
    for (const { state, start } of clients.values())
      yield entry(EntryKind.CLIENT, name, JSON.stringify(state), String(start));
  }
  for (const [path, resources] of lockspaces) {
    const directory = JSON.stringify(path);
    if (path !== '') yield entry(EntryKind.LOCKSPACE, directory);
    for (const [name, { state, holds, isReleasing }] of resources) {
      yield entry(EntryKind.RESOURCE, directory, JSON.stringify(state), JSON.stringify(holds));
      if (isReleasing) yield entry(EntryKind.RELEASING, directory, JSON.stringify(name));
    }
  }
  for (const end of ends.values()) yield entry(EntryKind.END, JSON.stringify(end));
  if (own !== null) yield entry(EntryKind.SETTINGS, changing.format(own));
}

function setEnding(holds: RecordedHold[], [at, ending]: readonly number[]): void {
  const place = existing(holds, at);
  const before = holds[place];
  if (before !== undefined) holds[place] = { ...before, hold: { ...before.hold, ending } };
}

function existing(holds: readonly RecordedHold[], value: unknown): number {
  const at = whole.read(value);
  if (at >= holds.length) throw new RecordError('it changes an unknown hold');
  return at;
}

/** Whether a storage helper has the resource's file, or etcd its lock. */
export function isRemote(state: Json): boolean {
  return state['x-storage'] !== undefined || state['x-etcd'] !== undefined;
}

/** The helpers that have ended, and those without their sockets, which end by that. */
function endedHelpers(
  { storage = [], endedStorage = [] }: ChangingState,
  isKept: (helper: HelperState) => boolean,
): EndedHelperState[] {
  const left = storage.filter((helper) => !isKept(helper));
  return [...endedStorage, ...left.flatMap(({ id, pid }) => (pid === undefined ? [] : [{ id, pid }]))];
}

function emptyServer(): RecordedServer {
  return { head: null, clients: new Map(), nextId: 1 };
}

/**
 * The state as a document of a restart, in JSON.
 *
 * @param descriptorOf this process's descriptor of a stored name; undefined when there is none
 */
export function recordedDocument(
  { lockServer, adminServer, lockspaces, ends, settings: own, recorder: { restarts, deaths, started } }: RecordedState,
  descriptorOf: (name: number) => number | undefined,
): Json {
  const serverJson = (
    { head, clients, nextId }: RecordedServer,
    kind: typeof lockClient | typeof adminClient,
  ): Json => ({
    ...readObject(replaceDescriptors(server.shape, head, (name) => descriptorOf(name) ?? -1)),
    next_client_id: nextId,
    clients: [...clients.values()].map(({ state }) =>
      replaceDescriptors(kind.shape, state, (name) => descriptorOf(name) ?? -1),
    ),
  });
  const resourceJson = ({ state, json, isReleasing }: RecordedResource): Json => ({
    ...readObject(replaceDescriptors(resource.shape, state, (name) => descriptorOf(name) ?? -1)),
    ...(isReleasing ? { 'x-releasing': 0 } : {}),
    ...json,
  });
  // One without its socket is lost, and its locks with it: RemoteFiles asks for them again.
  const isKept = ({ socket }: { readonly socket: number }): boolean => descriptorOf(socket) !== undefined;
  const ended = own === null ? [] : endedHelpers(own, isKept);
  const kept = own && {
    ...own,
    storage: own.storage?.filter(isKept),
    endedStorage: ended.length === 0 ? undefined : ended,
    // The client has ended with the daemon.
    etcd: own.etcd && {
      ...own.etcd,
      client: undefined,
      guard: own.etcd.guard !== undefined && isKept(own.etcd.guard) ? own.etcd.guard : undefined,
    },
  };
  const [first = null, ...others] = Array.from(lockspaces, ([directory, resources]) => ({
    directory,
    resources: Array.from(resources.values())
      // The release of a file that a storage helper has goes on.
      .filter(({ isReleasing, state }) => !isReleasing || isRemote(state))
      .map(resourceJson),
  }));
  return {
    daemon: { servers: { admin: serverJson(adminServer, adminClient), virtlockd: serverJson(lockServer, lockClient) } },
    defaultLockspace: { resources: first?.resources ?? [] },
    lockspaces: others,
    magic: String(process.pid),
    'x-virtlockd': {
      restarts,
      deaths,
      started,
      ...(kept === null ? {} : readObject(replaceDescriptors(changing.shape, kept, descriptorOf))),
      ...(ends.size === 0
        ? {}
        : { ending: Array.from(ends.values(), (end) => replaceDescriptors(ownerEnd.shape, end, descriptorOf)) }),
    },
  };
}
