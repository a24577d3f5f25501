/**
 * The state document that one daemon leaves to the next across exec, in the form that the C daemon writes and reads. Our
 * own additions are keys that begin with `x-`: every reader ignores them, and this one works without them.
 *
 * Strings are bytes (latin1), as everywhere: C writes names raw.
 */
import { constants, isAscii } from 'node:buffer';
import type { ByteString } from '../../xdr/codec.ts';
import type { OwnerEndState } from '../lockd/owner-end.ts';

export interface SocketState {
  readonly fd: number;
  readonly errfd: number;
  readonly pid: number;
  readonly isClient: boolean;
  readonly unlinkUNIX: boolean;
}

/** What a lock client registered. */
export interface OwnerState {
  readonly restricted: boolean;
  readonly ownerPid: number;
  /** 0: it has not registered. C cannot write such a client, but reads it. */
  readonly ownerId: number;
  readonly ownerName: ByteString;
  readonly ownerUUID: string;
}

export interface ClientState {
  readonly id: number;
  readonly auth: number;
  readonly auth_pending: boolean;
  readonly readonly: boolean;
  readonly nrequests_max: number;
  /** Seconds since 1970; 0 when unknown. */
  readonly conn_time: number;
  readonly sock: SocketState;
  /** Null for a client of the admin server. */
  readonly privateData: OwnerState | null;
  /** Bytes received and not served, base64. */
  readonly 'x-received'?: string;
  /** Bytes of that message which are still to come, to be dropped. */
  readonly 'x-skip'?: number;
  /** Replies that the client has not taken, base64. */
  readonly 'x-unsent'?: string;
  /** It is disconnected once it has taken those. */
  readonly 'x-closing'?: boolean;
  /** It gets the inquire program's events. */
  readonly 'x-subscribed'?: boolean;
  /** How many of those it could not be told of. */
  readonly 'x-missed'?: number;
  /** Whether its peer is in the daemon's pid namespace. */
  readonly 'x-local'?: boolean;
  /** When its peer's process started, where the kernel does not tell later which process it was. */
  readonly 'x-start'?: number;
}

export interface ServiceState {
  readonly auth: number;
  readonly readonly: boolean;
  readonly nrequests_client_max: number;
  readonly socks: readonly SocketState[];
}

export interface ServerState {
  readonly min_workers: number;
  readonly max_workers: number;
  readonly priority_workers: number;
  readonly max_clients: number;
  readonly max_anonymous_clients: number;
  readonly keepaliveInterval: number;
  readonly keepaliveCount: number;
  readonly next_client_id: number;
  readonly services: readonly ServiceState[];
  /** Those of a running daemon are described as they are when their turn comes. */
  readonly clients: Iterable<ClientState>;
}

/** A server that nobody has connected to, as C writes it but for its limit, with the ids of clients still to come. */
export const EMPTY_SERVER: ServerState = {
  min_workers: 0,
  max_workers: 0,
  priority_workers: 0,
  max_clients: 1024,
  max_anonymous_clients: 1024,
  keepaliveInterval: 0xffffffff,
  keepaliveCount: 0,
  next_client_id: 1,
  services: [],
  clients: [],
};

/** A state that holds nothing, in the form of the document. */
export const EMPTY_STATE = {
  daemon: { servers: { admin: EMPTY_SERVER, virtlockd: EMPTY_SERVER } },
  defaultLockspace: { resources: [] },
  lockspaces: [],
  magic: '1',
} as const;

/** One hold, in the order of `owners`: what the pid alone does not tell. */
export interface HoldState {
  readonly id: number;
  readonly name: ByteString;
  readonly uuid: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** The connection it was acquired through. */
  readonly client: number;
  /** When the owner's process started: see OwnerIdentity. */
  readonly start?: number | undefined;
  /** The owner's pid is one of another namespace. */
  readonly foreign?: boolean | undefined;
  /** Its owner is being ended: the id of one of {@link OwnState.ending}. */
  readonly ending?: number | undefined;
}

export interface ResourceState {
  readonly name: ByteString;
  readonly path: ByteString;
  readonly fd: number;
  readonly lockHeld: boolean;
  readonly flags: number;
  readonly owners: readonly number[];
  readonly 'x-holds'?: readonly HoldState[];
  /** Device and inode behind the descriptor. */
  readonly 'x-inode'?: string;
  /** Further descriptors of that inode, which must stay open as long: closing one would drop the lock. */
  readonly 'x-spares'?: readonly number[];
}

/** As with clients, there may be very many resources. */
export interface LockspaceState {
  readonly directory: ByteString;
  readonly resources: Iterable<ResourceState>;
  /** The resources in writing, where they need not be put into words: each text of some, with a comma before it. */
  readonly texts?: Iterable<Buffer>;
}

/** Which process it is, beyond its pid. */
export interface ProcessState {
  /** When it started, in clock ticks since boot. */
  readonly start: number;
  /** The id of that boot; empty where it was not readable. */
  readonly boot: string;
}

/** What only this implementation keeps. */
export interface OwnState {
  /** The process that wrote the document. */
  readonly process?: ProcessState;
  /** How often the process has executed itself again. */
  readonly restarts: number;
  /** When the process began to serve, milliseconds since 1970. */
  readonly started: number;
  /** Descriptor of the locked pid file, which so is never up for grabs. */
  readonly pidFile?: number;
  /** The epoll descriptor that all connections hang on; a C daemon has no use for it. */
  readonly epoll?: number;
  /** Seconds of idleness after which the daemon ends, if set at run time. */
  readonly timeout?: number;
  /** Log settings made at run time. */
  readonly log?: LogState;
  readonly inquiry?: InquiryState;
  /** Owners that are being ended: their locks are held until their processes are gone. */
  readonly ending?: readonly OwnerEndState[];
}

/** What the inquire program remembers. */
export interface InquiryState {
  readonly counters: Readonly<Record<string, number>>;
  /** How many acquires were refused. */
  readonly refused: number;
  /** The last of those, base64; read by who knows the form, when somebody asks. */
  readonly refusals: string;
}

export interface LogState {
  readonly level: number;
  readonly filters: ByteString;
  readonly outputs: ByteString;
}

export interface StateDocument {
  readonly magic: string;
  readonly lockServer: ServerState;
  /** Absent from documents of libvirt 1.x. */
  readonly adminServer: ServerState | null;
  /** The default one first, whose directory is empty. To be gone through in this order. */
  readonly lockspaces: Iterable<LockspaceState>;
  readonly own: OwnState | null;
}

/** The largest document that this implementation reads: the runtime has no longer string. */
export const DOCUMENT_MAX = constants.MAX_STRING_LENGTH;

/** The document's bytes: without white space, for C's limit, and with the keys in C's order. */
export function formatDocument(document: StateDocument): Buffer {
  return Buffer.concat([...formatPieces(document)]);
}

/** As {@link formatDocument}, piece by piece: one of a hundred thousand locks takes long to put together. */
export function* formatPieces(document: StateDocument): Generator<Buffer> {
  for (const text of documentTexts(document)) yield typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
}

/** How many items of a list are written at once: fewer where they have more characters than that. */
const ITEMS = 64;
const CHARACTERS = 64 * 1024;

function* documentTexts({
  magic,
  lockServer,
  adminServer,
  lockspaces,
  own,
}: StateDocument): Generator<string | Buffer> {
  yield '{"daemon":{"servers":{';
  if (adminServer !== null) {
    yield '"admin":';
    yield* serverTexts(adminServer);
    yield ',';
  }
  yield '"virtlockd":';
  yield* serverTexts(lockServer);
  yield '}},"defaultLockspace":{';
  let index = 0;
  for (const { directory, resources, texts } of lockspaces) {
    if (index > 0) yield `${index > 1 ? ',' : ''}{"directory":${JSON.stringify(directory)},`;
    yield '"resources":';
    if (texts === undefined) yield* listTexts(resources, (resource) => JSON.stringify(resource));
    else yield* joined(texts);
    yield index > 0 ? '}' : '},"lockspaces":[';
    index++;
  }
  yield `],"magic":${JSON.stringify(magic)}${own === null ? '' : `,"x-virtlockd":${JSON.stringify(own)}`}}`;
}

function* joined(texts: Iterable<Buffer>): Generator<string | Buffer> {
  yield '[';
  let skip = 1;
  for (const text of texts) {
    yield skip === 0 ? text : text.subarray(skip);
    skip = 0;
  }
  yield ']';
}

function* listTexts<T>(items: Iterable<T>, format: (item: T) => string): Generator<string> {
  yield '[';
  let texts: string[] = [];
  let length = 0;
  let comma = '';
  for (const item of items) {
    const text = format(item);
    texts.push(text);
    length += text.length;
    if (texts.length < ITEMS && length < CHARACTERS) continue;
    yield comma + texts.join();
    comma = ',';
    texts = [];
    length = 0;
  }
  yield `${texts.length > 0 ? comma : ''}${texts.join()}]`;
}

function* serverTexts({ clients, ...server }: ServerState): Generator<string> {
  yield `${JSON.stringify(server).slice(0, -1)},"clients":`;
  yield* listTexts(clients, clientText);
  yield '}';
}

/**
 * The document in ASCII alone, of one in UTF-8. Every C daemon that resumes can read it; 11.3.0 refuses letters beyond
 * ASCII that are not escaped, in its own documents too, and exits with every lock lost.
 */
export function asciiDocument(document: Buffer): Buffer {
  if (isAscii(document)) return document;
  const escaped = document
    .toString('utf8')
    .replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return Buffer.from(escaped, 'latin1');
}

/** By the client's state, which is the same object as long as nothing about the client changes. */
const clientTexts = new WeakMap<ClientState, string>();

function clientText(client: ClientState): string {
  const known = clientTexts.get(client);
  if (known !== undefined) return known;
  const { conn_time, privateData, ...rest } = client;
  const text = JSON.stringify({ ...rest, ...(conn_time === 0 ? {} : { conn_time }), privateData: privateData ?? {} });
  clientTexts.set(client, text);
  return text;
}
