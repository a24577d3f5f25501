/**
 * Reads a state document, in its present form and in every older one of C's. Each room describes its part in its state.ts.
 */
import { own } from '../daemon/state.ts';
import { hold, resource, type ResourceState } from '../lockspace/state.ts';
import { server } from '../rpc/state.ts';
import {
  beginReading,
  DocumentError,
  fail,
  type Json,
  type Kind,
  list,
  readAt,
  readField,
  readList,
  readObject,
  text,
} from '../state/state.ts';
import {
  adminClient,
  type AdminClientState,
  lockClient,
  type LockClientState,
  type LockspaceState,
  type ServerState,
  type StateDocument,
} from './document.ts';
import { partDocument, type Readers, ResourceList } from './parts.ts';

/** Clients by descriptor, unread. */
type Late = Map<number, unknown>;

/**
 * Gives ids to the clients that have none, and moves the idle ones, without a partial request or reply, into `late`. Returns the others.
 */
function sortOut(value: unknown, nextId: () => number, late: Late | null): unknown {
  if (!Array.isArray(value)) return value;
  return (value as unknown[]).filter((client, index) => {
    const from = readAt(index, client, readObject);
    if (from.id === undefined) from.id = nextId();
    if (late === null) return true;
    const fd = from.sock === undefined ? undefined : readObject(from.sock).fd;
    const isBusy = from['x-received'] !== undefined || from['x-unsent'] !== undefined;
    if (typeof fd !== 'number' || isBusy || late.has(fd)) return true;
    late.set(fd, client);
    return false;
  });
}

/** Reads a late client: see {@link parseDocument}. @throws DocumentError */
export function parseLateClient(value: unknown): LockClientState {
  beginReading();
  return lockClient.read(value);
}

type ServerReader<C> = (value: unknown, late?: Late | null) => ServerState<C>;

function serverReader<C extends { readonly id: number }>(client: Kind<C>): ServerReader<C> {
  const clientList = list(client);
  return (value, late = null) => {
    const head = server.read(value);
    let next = head.next_client_id;
    const clients = readField(readObject(value), 'clients', (all) => clientList.read(sortOut(all, () => next++, late)));
    const ids = new Set(clients.map(({ id }) => id));
    if (ids.size < clients.length) fail('two clients have the same id');
    return { ...head, next_client_id: next, clients };
  };
}

const lockServer: ServerReader<LockClientState> = serverReader(lockClient);
const adminServer: ServerReader<AdminClientState> = serverReader(adminClient);

type Servers = Pick<StateDocument, 'lockServer' | 'adminServer'>;

/** The servers, in the four places where the versions of C have put them. */
function servers(root: Json, late: Late | null): Servers {
  if (root.daemon === undefined) return { lockServer: readField(root, 'server', lockServer), adminServer: null };
  return readField(root, 'daemon', (value) => {
    const daemon = readObject(value);
    const list = daemon.servers;
    if (list === undefined) return { lockServer: lockServer(daemon), adminServer: null };
    if (Array.isArray(list)) return readField(daemon, 'servers', () => serversByPosition(list));
    return readField(daemon, 'servers', (byName) => serversByName(byName, late));
  });
}

function serversByPosition(list: readonly unknown[]): Servers {
  if (list.length === 0 || list.length > 2) fail(`${list.length} servers, where one or two are known`);
  return {
    lockServer: readAt(0, list[0], lockServer),
    adminServer: list.length > 1 ? readAt(1, list[1], adminServer) : null,
  };
}

function serversByName(value: unknown, late: Late | null): Servers {
  const byName = readObject(value);
  for (const name of Object.keys(byName)) {
    if (name !== 'virtlockd' && name !== 'admin') fail(`unknown server '${name}'`);
  }
  return {
    lockServer: readField(byName, 'virtlockd', (value) => lockServer(value, late)),
    adminServer: byName.admin === undefined ? null : readField(byName, 'admin', adminServer),
  };
}

const resourceList = list(resource);

function lockspace(value: unknown): LockspaceState {
  const from = readObject(value);
  return { directory: readField(from, 'directory', text.read), resources: readField(from, 'resources', resources) };
}

function resources(value: unknown): Iterable<ResourceState> {
  return value instanceof ResourceList ? { [Symbol.iterator]: () => value.read(readers) } : resourceList.read(value);
}

const readers: Readers = {
  resource: (source) => {
    beginReading();
    return resource.read(jsonOf(escapesToBytes(source)));
  },
  owner: (members) => {
    beginReading();
    // The scanner reads those two itself.
    return hold.read({ ...readObject(jsonOf(`{${members}}`)), since: 0, client: 0 });
  },
  fail: (problem) => {
    beginReading();
    return fail(problem);
  },
};

/**
 * `\u` escapes of characters beyond ASCII, which stand for their UTF-8 bytes. C writes bytes raw, but may read such
 * escapes from elsewhere.
 */
function escapesToBytes(source: string): string {
  // The first test is a hundred times faster than the second, and clients wait.
  if (!source.includes('\\u') || !/\\u(?!00[0-7])/i.test(source)) return source;
  return source.replace(
    /\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u([0-9a-f]{4})|\\[^u]/gi,
    (match: string, high?: string, low?: string, single?: string) => {
      const codes = [high, low, single].flatMap((digits) => (digits === undefined ? [] : [parseInt(digits, 16)]));
      const [first] = codes;
      return first === undefined || first < 0x80
        ? match
        : Buffer.from(String.fromCharCode(...codes), 'utf8').toString('latin1');
    },
  );
}

/** The `magic` of a document; null when there is none. */
export function magicOf(json: unknown): string | null {
  const magic = typeof json === 'object' && json !== null ? (json as Json).magic : undefined;
  return typeof magic === 'string' ? magic : null;
}

/** The epoll descriptor that a document names; null when there is none. */
export function epollOf(json: unknown): number | null {
  const own = typeof json === 'object' && json !== null ? (json as Json)['x-virtlockd'] : undefined;
  const epoll = typeof own === 'object' && own !== null ? (own as Json).epoll : undefined;
  return typeof epoll === 'number' ? epoll : null;
}

/** The JSON value in the bytes of a document. @throws DocumentError */
export function parseJson(bytes: Buffer): unknown {
  return jsonOf(escapesToBytes(bytes.toString('latin1')));
}

/**
 * As {@link parseJson}, for a document that passed a proof: resources are read, and errors in them thrown, during iteration. C daemons
 * and our first release prove less: their resources are all read at once.
 *
 * @throws DocumentError
 */
export function parseProvenJson(bytes: Buffer): unknown {
  const parts = partDocument(bytes);
  if (parts === null) return parseJson(bytes);
  const json = jsonOf(escapesToBytes(parts.frame)) as Json;
  if ((json['x-virtlockd'] as Json | null | undefined)?.process === undefined) return parseJson(bytes);
  const [first, ...others] = parts.lists;
  json.defaultLockspace = { resources: first };
  json.lockspaces = (json.lockspaces as Json[]).map((lockspace, index) => ({ ...lockspace, resources: others[index] }));
  return json;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new DocumentError(`not JSON: ${(error as Error).message}`);
  }
}

/**
 * @param late gets the idle clients of the lock server, unread, by descriptor; null: all are read
 * @throws DocumentError
 */
export function parseDocument(json: unknown, late: Late | null = null): StateDocument {
  beginReading();
  const root = readObject(json);
  return {
    magic: readField(root, 'magic', text.read),
    ...servers(root, late),
    lockspaces: [
      readField(root, 'defaultLockspace', (value) => lockspace({ ...readObject(value), directory: '' })),
      ...readField(root, 'lockspaces', (value) => readList(value, lockspace)),
    ],
    own: root['x-virtlockd'] === undefined ? null : readField(root, 'x-virtlockd', own.read),
  };
}
