/** Reads a state document, in its present form and in every older one, and says exactly what is wrong with a bad one. */
import type { OwnerEndState } from '../lockd/owner-end.ts';
import type {
  ClientState,
  HoldState,
  InquiryState,
  LockspaceState,
  LogState,
  OwnerState,
  OwnState,
  ProcessState,
  ResourceState,
  ServerState,
  ServiceState,
  SocketState,
  StateDocument,
} from './document.ts';
import { partDocument, type Readers, ResourceList } from './parts.ts';

/** The document is not one; `message` names the place. */
export class DocumentError extends Error {}

type Json = Record<string, unknown>;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const U32_MAX = 0xffffffff;
const DESCRIPTOR_MAX = 0x7fffffff;

/** Where in the document the reader is; spelled out only when something is wrong. */
const trail: (string | number)[] = [];

function fail(problem: string): never {
  const place = trail.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  throw new DocumentError(`${place === '' ? 'document' : place.replace(/^\./, '')}: ${problem}`);
}

/** Reads the value of a key with `read`, which must not be missing unless a `fallback` is given. */
function field<T>(from: Json, key: string, read: (value: unknown) => T, fallback?: T): T {
  const value = from[key];
  if (value === undefined && fallback !== undefined) return fallback;
  trail.push(key);
  if (value === undefined) fail('missing');
  const result = read(value);
  trail.pop();
  return result;
}

function object(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail('expected an object');
  return value as Json;
}

function listOf<T>(read: (value: unknown) => T): (value: unknown) => T[] {
  return (value) => {
    if (!Array.isArray(value)) fail('expected an array');
    const items: T[] = [];
    for (let i = 0; i < value.length; i++) {
      trail.push(i);
      items.push(read(value[i]));
      trail.pop();
    }
    return items;
  };
}

function boolean(value: unknown): boolean {
  return typeof value === 'boolean' ? value : fail('expected true or false');
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : fail('expected a string');
}

function integer(value: unknown, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value)) fail('expected an integer');
  // Plus 0, which makes one of -0, as a C daemon reads it.
  return value >= least && value <= most ? value + 0 : fail(`${value} is not between ${least} and ${most}`);
}

const u32 = (value: unknown): number => integer(value, 0, U32_MAX);
const i32 = (value: unknown): number => integer(value, -0x80000000, DESCRIPTOR_MAX);
const descriptor = (value: unknown): number => integer(value, 0, DESCRIPTOR_MAX);
/** C 7.0.0 closes its sockets before it writes them down, as -1; this daemon has files that it could not open again. */
const maybeDescriptor = (value: unknown): number => integer(value, -1, DESCRIPTOR_MAX);
const whole = (value: unknown): number => integer(value, 0, Number.MAX_SAFE_INTEGER);
const startTime = (value: unknown): number => integer(value, -1, Number.MAX_SAFE_INTEGER);
/** C writes -1 as an unsigned number; readers take both. */
const u32OrMinusOne = (value: unknown): number => (value === -1 ? U32_MAX : u32(value));

function uuid(value: unknown): string {
  // As every writer writes it. There are thousands, and clients wait.
  if (typeof value === 'string' && UUID.test(value)) return value;
  const digits = text(value).replace(/-/g, '').toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(digits)) fail('expected a UUID');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function socket(value: unknown): SocketState {
  const from = object(value);
  const isClient = field(from, 'isClient', boolean);
  return {
    fd: field(from, 'fd', maybeDescriptor),
    errfd: field(from, 'errfd', i32),
    pid: field(from, 'pid', i32),
    isClient,
    unlinkUNIX: field(from, 'unlinkUNIX', boolean, !isClient),
  };
}

function owner(value: unknown): OwnerState {
  const from = object(value);
  return {
    restricted: field(from, 'restricted', boolean),
    ownerPid: field(from, 'ownerPid', u32),
    ownerId: field(from, 'ownerId', u32),
    ownerName: field(from, 'ownerName', text),
    ownerUUID: field(from, 'ownerUUID', uuid),
  };
}

/** Clients that a document gives no id get the next ones. */
function clientReader(isAdmin: boolean, nextId: () => number): (value: unknown) => ClientState {
  return (value) => {
    const from = object(value);
    const auth = field(from, 'auth', i32);
    const client: ClientState = {
      id: from.id === undefined ? nextId() : field(from, 'id', whole),
      auth,
      auth_pending: field(from, 'auth_pending', boolean, false),
      readonly: field(from, 'readonly', boolean),
      nrequests_max: field(from, 'nrequests_max', u32),
      conn_time: field(from, 'conn_time', whole, 0),
      sock: field(from, 'sock', socket),
      privateData: isAdmin ? null : field(from, 'privateData', owner),
    };
    if (client.auth_pending && auth === 0) fail('auth_pending although there is no authentication');
    // Few clients have any of these, and spreading nothing costs time as well.
    const received = from['x-received'] !== undefined || from['x-unsent'] !== undefined;
    const known = from['x-local'] !== undefined || from['x-start'] !== undefined;
    if (!received && !known && from['x-subscribed'] === undefined) return client;
    return {
      ...client,
      ...(received ? backlog(from) : {}),
      ...(from['x-subscribed'] === undefined ? {} : { 'x-subscribed': field(from, 'x-subscribed', boolean) }),
      ...(from['x-missed'] === undefined ? {} : { 'x-missed': field(from, 'x-missed', whole) }),
      ...(from['x-local'] === undefined ? {} : { 'x-local': field(from, 'x-local', boolean) }),
      ...(from['x-start'] === undefined ? {} : { 'x-start': field(from, 'x-start', startTime) }),
    };
  };
}

function backlog(from: Json): Partial<ClientState> {
  return {
    'x-received': field(from, 'x-received', text, ''),
    'x-skip': field(from, 'x-skip', u32, 0),
    'x-unsent': field(from, 'x-unsent', text, ''),
    ...(from['x-closing'] === undefined ? {} : { 'x-closing': field(from, 'x-closing', boolean) }),
  };
}

function service(value: unknown): ServiceState {
  const from = object(value);
  return {
    auth: field(from, 'auth', i32),
    readonly: field(from, 'readonly', boolean),
    nrequests_client_max: field(from, 'nrequests_client_max', u32),
    socks: field(from, 'socks', listOf(socket)),
  };
}

/**
 * Moves the clients of the list into `late`, by descriptor and unread, that have nothing under way: no request or reply in
 * parts. Returns the others.
 */
function setAside(value: unknown, late: Map<number, unknown>): unknown {
  if (!Array.isArray(value)) return value;
  const others: unknown[] = [];
  for (const client of value as unknown[]) {
    const from = object(client);
    const fd = from.sock === undefined ? undefined : object(from.sock).fd;
    const isBusy = from['x-received'] !== undefined || from['x-unsent'] !== undefined;
    if (typeof fd !== 'number' || isBusy || late.has(fd)) others.push(client);
    else late.set(fd, client);
  }
  return others;
}

/** A client that was set aside: see {@link parseDocument}. @throws DocumentError */
export function parseLateClient(value: unknown): ClientState {
  trail.length = 0;
  return clientReader(false, () => fail('id: missing'))(value);
}

function serverReader(isAdmin: boolean): (value: unknown, late?: Map<number, unknown> | null) => ServerState {
  return (value, late = null) => {
    const from = object(value);
    const maxClients = field(from, 'max_clients', u32);
    const maxAnonymous = field(from, 'max_anonymous_clients', u32, maxClients);
    if (maxClients < maxAnonymous) fail(`max_clients ${maxClients} is below max_anonymous_clients ${maxAnonymous}`);
    let next = field(from, 'next_client_id', whole, 1);
    const read = listOf(clientReader(isAdmin, () => next++));
    const clients = field(from, 'clients', (list) => read(late === null ? list : setAside(list, late)));
    const ids = new Set(clients.map(({ id }) => id));
    if (ids.size < clients.length) fail('two clients have the same id');
    return {
      min_workers: field(from, 'min_workers', u32),
      max_workers: field(from, 'max_workers', u32),
      priority_workers: field(from, 'priority_workers', u32),
      max_clients: maxClients,
      max_anonymous_clients: maxAnonymous,
      keepaliveInterval: field(from, 'keepaliveInterval', u32OrMinusOne),
      keepaliveCount: field(from, 'keepaliveCount', u32),
      next_client_id: next,
      services: field(from, 'services', listOf(service)),
      clients,
    };
  };
}

const lockServer = serverReader(false);
const adminServer = serverReader(true);

type Servers = Pick<StateDocument, 'lockServer' | 'adminServer'>;

/** The servers, in the four places where versions have put them. */
function servers(root: Json, late: Map<number, unknown> | null): Servers {
  if (root.daemon === undefined) return { lockServer: field(root, 'server', lockServer), adminServer: null };
  return field(root, 'daemon', (value) => {
    const daemon = object(value);
    const list = daemon.servers;
    if (list === undefined) return { lockServer: lockServer(daemon), adminServer: null };
    if (Array.isArray(list)) return field(daemon, 'servers', serversByPosition);
    return field(daemon, 'servers', (byName) => serversByName(byName, late));
  });
}

function serversByPosition(value: unknown): Servers {
  const list = value as unknown[];
  if (list.length === 0 || list.length > 2) fail(`${list.length} servers, where one or two are known`);
  const at = (index: number, read: (value: unknown) => ServerState): ServerState => {
    trail.push(index);
    const server = read(list[index]);
    trail.pop();
    return server;
  };
  return { lockServer: at(0, lockServer), adminServer: list.length > 1 ? at(1, adminServer) : null };
}

function serversByName(value: unknown, late: Map<number, unknown> | null): Servers {
  const byName = object(value);
  for (const name of Object.keys(byName)) {
    if (name !== 'virtlockd' && name !== 'admin') fail(`unknown server '${name}'`);
  }
  return {
    lockServer: field(byName, 'virtlockd', (server) => lockServer(server, late)),
    adminServer: byName.admin === undefined ? null : field(byName, 'admin', adminServer),
  };
}

function hold(value: unknown): HoldState {
  const from = object(value);
  const known: HoldState = {
    id: field(from, 'id', u32),
    name: field(from, 'name', text),
    uuid: field(from, 'uuid', uuid),
    since: field(from, 'since', whole),
    client: field(from, 'client', whole),
  };
  // Most have none of these, and spreading nothing costs time as well.
  if (from.start === undefined && from.foreign === undefined && from.ending === undefined) return known;
  return {
    ...known,
    ...(from.start === undefined ? {} : { start: field(from, 'start', startTime) }),
    ...(from.foreign === undefined ? {} : { foreign: field(from, 'foreign', boolean) }),
    ...(from.ending === undefined ? {} : { ending: field(from, 'ending', whole) }),
  };
}

function resource(value: unknown): ResourceState {
  const from = object(value);
  const holds = from['x-holds'] === undefined ? undefined : field(from, 'x-holds', listOf(hold));
  const inode = from['x-inode'] === undefined ? undefined : field(from, 'x-inode', text);
  return {
    name: field(from, 'name', text),
    path: field(from, 'path', text),
    fd: field(from, 'fd', maybeDescriptor),
    lockHeld: field(from, 'lockHeld', boolean),
    flags: field(from, 'flags', u32),
    owners: field(from, 'owners', listOf(u32)),
    ...(holds === undefined ? {} : { 'x-holds': holds }),
    ...(inode === undefined ? {} : { 'x-inode': inode }),
    ...(from['x-spares'] === undefined ? {} : { 'x-spares': field(from, 'x-spares', listOf(descriptor)) }),
  };
}

function lockspace(value: unknown): LockspaceState {
  const from = object(value);
  return { directory: field(from, 'directory', text), resources: field(from, 'resources', resources) };
}

function resources(value: unknown): Iterable<ResourceState> {
  return value instanceof ResourceList ? { [Symbol.iterator]: () => value.read(readers) } : listOf(resource)(value);
}

const readers: Readers = {
  resource: (source) => {
    trail.length = 0;
    return resource(jsonOf(escapesToBytes(source)));
  },
  owner: (members) => {
    trail.length = 0;
    return hold({ ...object(jsonOf(`{${members}}`)), since: 0, client: 0 });
  },
  fail: (problem) => {
    trail.length = 0;
    return fail(problem);
  },
};

function log(value: unknown): LogState {
  const from = object(value);
  return {
    level: field(from, 'level', (level) => integer(level, 1, 4)),
    filters: field(from, 'filters', text),
    outputs: field(from, 'outputs', text),
  };
}

function inquiry(value: unknown): InquiryState {
  const from = object(value);
  return {
    counters: field(from, 'counters', counters),
    refused: field(from, 'refused', whole),
    refusals: field(from, 'refusals', text),
  };
}

function counters(value: unknown): Record<string, number> {
  const from = object(value);
  return Object.fromEntries(Object.keys(from).map((name) => [name, field(from, name, whole)]));
}

function own(value: unknown): OwnState {
  const from = object(value);
  return {
    restarts: field(from, 'restarts', whole),
    started: field(from, 'started', whole),
    ...(from.process === undefined ? {} : { process: field(from, 'process', processOf) }),
    ...(from.pidFile === undefined ? {} : { pidFile: field(from, 'pidFile', descriptor) }),
    ...(from.epoll === undefined ? {} : { epoll: field(from, 'epoll', descriptor) }),
    ...(from.timeout === undefined ? {} : { timeout: field(from, 'timeout', u32) }),
    ...(from.log === undefined ? {} : { log: field(from, 'log', log) }),
    ...(from.inquiry === undefined ? {} : { inquiry: field(from, 'inquiry', inquiry) }),
    ...(from.ending === undefined ? {} : { ending: field(from, 'ending', listOf(ending)) }),
  };
}

function processOf(value: unknown): ProcessState {
  const from = object(value);
  return { start: field(from, 'start', whole), boot: field(from, 'boot', text) };
}

function ending(value: unknown): OwnerEndState {
  const from = object(value);
  return {
    id: field(from, 'id', whole),
    pid: field(from, 'pid', u32),
    name: field(from, 'name', text),
    began: field(from, 'began', whole),
    ...(from.termSent === undefined ? {} : { termSent: field(from, 'termSent', whole) }),
    ...(from.killSent === undefined ? {} : { killSent: field(from, 'killSent', boolean) }),
    ...(from.reported === undefined ? {} : { reported: field(from, 'reported', boolean) }),
    ...(from.socket === undefined ? {} : { socket: field(from, 'socket', descriptor) }),
    ...(from.pidfd === undefined ? {} : { pidfd: field(from, 'pidfd', descriptor) }),
    ...(from.isProcess === undefined ? {} : { isProcess: field(from, 'isProcess', boolean) }),
    ...(from.startTime === undefined ? {} : { startTime: field(from, 'startTime', startTime) }),
  };
}

/**
 * `\u` escapes of characters beyond ASCII, which stand for their UTF-8 bytes. C writes bytes raw, but may read such
 * escapes from elsewhere.
 */
function escapesToBytes(source: string): string {
  // The first look is a hundred times faster than the second, and clients wait.
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

/** The `magic` of a document, which is looked at before anything else. Null when there is none. */
export function magicOf(json: unknown): string | null {
  const magic = typeof json === 'object' && json !== null ? (json as Json).magic : undefined;
  return typeof magic === 'string' ? magic : null;
}

/** The epoll descriptor that a document says was left. Null when it says nothing of one. */
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
 * As {@link parseJson}, for a document that was proven already: resources are read when they are gone through, and only then is
 * what is wrong with them thrown. C daemons and the first release prove less: theirs are all read.
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
 * @param late gets the lock server's clients that have nothing under way, unread, by descriptor; null: all are read
 * @throws DocumentError
 */
export function parseDocument(json: unknown, late: Map<number, unknown> | null = null): StateDocument {
  trail.length = 0;
  const root = object(json);
  return {
    magic: field(root, 'magic', text),
    ...servers(root, late),
    lockspaces: [
      field(root, 'defaultLockspace', (value) => lockspace({ ...object(value), directory: '' })),
      ...field(root, 'lockspaces', listOf(lockspace)),
    ],
    own: root['x-virtlockd'] === undefined ? null : field(root, 'x-virtlockd', own),
  };
}
