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
import { RecordError } from '../store/record.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { adminClient, lockClient } from './document.ts';
import {
  EntryKind,
  recordedHold,
  type RecordedHold,
  recorder,
  type RecorderState,
  settings,
  type Settings,
} from './entries.ts';

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

export interface RecordedResource {
  /** Without its holds. */
  readonly state: Json;
  holds: RecordedHold[];
  /** Its last hold is released. The process died before, while or after it unlinked and unlocked the file. */
  isReleasing: boolean;
}

export interface RecordedState {
  readonly recorder: RecorderState;
  readonly settings: Settings | null;
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
  for (const one of entries) {
    beginReading();
    try {
      const [kind, ...parts] = readList(JSON.parse(one) as unknown, (part) => part);
      fold.add(kind, parts);
    } catch (error) {
      throw error instanceof RecordError
        ? error
        : new RecordError(`an entry does not parse: ${(error as Error).message}`);
    }
  }
  return fold.result();
}

class Fold {
  private recorder: RecorderState | null = null;
  private settings: Settings | null = null;
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
        this.settings = settings.read(parts[0]);
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
    const { id } = (recorded === this.servers.admin ? adminClient : lockClient).read(state);
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
    this.lockspaceOf(directory).set(resource.read(state).name, {
      state,
      holds: readList(holds, recordedHold.read),
      isReleasing: false,
    });
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
        const gone = new Set(indexes.read(parts[0]).map((one) => existing(holds, one)));
        found.holds = holds.filter((_, at) => !gone.has(at));
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
  const resourceJson = ({ state, holds }: RecordedResource): Json => ({
    ...readObject(replaceDescriptors(resource.shape, state, (name) => descriptorOf(name) ?? -1)),
    owners: holds.map(({ pid }) => pid),
    'x-holds': holds.map(({ hold }) => hold),
  });
  const [first = null, ...others] = Array.from(lockspaces, ([directory, resources]) => ({
    directory,
    resources: Array.from(resources.values())
      .filter(({ isReleasing }) => !isReleasing)
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
      ...(own === null ? {} : readObject(replaceDescriptors(settings.shape, own, descriptorOf))),
      ...(ends.size === 0
        ? {}
        : { ending: Array.from(ends.values(), (end) => replaceDescriptors(ownerEnd.shape, end, descriptorOf)) }),
    },
  };
}
