/**
 * The state document that one daemon leaves to the next across exec, in the form that the C daemon writes and reads. Our
 * own additions are keys that begin with `x-`: every reader ignores them, and this one works without them.
 *
 * Strings are bytes (latin1), as everywhere: C writes names raw.
 */
import { constants, isAscii } from 'node:buffer';
import type { ByteString } from '../../xdr/codec.ts';
import { daemonFields } from '../daemon/state.ts';
import { subscriptionFields } from '../inquire/state.ts';
import { localityFields, registration } from '../lockd/state.ts';
import { resource, type ResourceState } from '../lockspace/state.ts';
import { complainOfConnection, connectionFields, peerFields, server, type ServerHead } from '../rpc/state.ts';
import {
  defaulted,
  descriptor,
  descriptorsIn,
  type Kind,
  nothing,
  object,
  optional,
  type StateOf,
  text,
  whole,
  write,
} from '../state/state.ts';

export const lockClient = object(
  { ...connectionFields, ...localityFields, ...peerFields, privateData: registration },
  complainOfConnection,
);
export type LockClientState = StateOf<typeof lockClient>;

export const adminClient = object(
  { ...connectionFields, ...subscriptionFields, ...peerFields, privateData: defaulted(nothing, () => null) },
  complainOfConnection,
);
export type AdminClientState = StateOf<typeof adminClient>;

export interface ServerState<C> extends ServerHead {
  /** Those of a running daemon are described as they are when their turn comes. */
  readonly clients: Iterable<C>;
}

/** As with clients, there may be very many resources. */
export interface LockspaceState {
  readonly directory: ByteString;
  readonly resources: Iterable<ResourceState>;
  /**
   * The resources in writing, where they need not be put into words: each text of some, with a comma before it. Their descriptors
   * are added.
   */
  readonly texts?: (descriptors: Set<number>) => Iterable<Buffer>;
}

/** Which process it is, beyond its pid. */
export const processIdentity = object({
  /** When it started, in clock ticks since boot. */
  start: whole,
  /** The id of that boot; empty where it was not readable. */
  boot: text,
});
export type ProcessState = StateOf<typeof processIdentity>;

/** What only this implementation keeps. */
export const ownState = object({
  /** How often the process has executed itself again. */
  restarts: whole,
  /** How often a daemon has died before this process took over from it. */
  deaths: optional(whole),
  /** Of the record that outlives this process: see src/store/record.ts. */
  record: optional(descriptor),
  /** When the process began to serve, milliseconds since 1970. */
  started: whole,
  /** The process that wrote the document. */
  process: optional(processIdentity),
  /** Descriptor of the locked pid file, which so is never up for grabs. */
  pidFile: optional(descriptor),
  ...daemonFields,
});
export type OwnState = StateOf<typeof ownState>;

export interface StateDocument {
  readonly magic: string;
  readonly lockServer: ServerState<LockClientState>;
  /** Absent from documents of libvirt 1.x. */
  readonly adminServer: ServerState<AdminClientState> | null;
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

/**
 * As {@link formatDocument}, piece by piece: one of a hundred thousand locks takes long to put together.
 *
 * @param descriptors gets all that are written: those that are to outlive exec
 */
export function* formatPieces(document: StateDocument, descriptors = new Set<number>()): Generator<Buffer> {
  for (const text of documentTexts(document, descriptors)) {
    yield typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
  }
}

/**
 * The descriptors that a document names, some of them more than once. As lazily as the document is described: of one of a running
 * daemon, those that it would name at this moment.
 */
export function* descriptorsOf({ lockServer, adminServer, lockspaces, own }: StateDocument): Generator<number> {
  if (adminServer !== null) {
    yield* descriptorsIn(server, adminServer);
    for (const client of adminServer.clients) yield* descriptorsIn(adminClient, client);
  }
  yield* descriptorsIn(server, lockServer);
  for (const client of lockServer.clients) yield* descriptorsIn(lockClient, client);
  for (const { resources } of lockspaces) for (const state of resources) yield* descriptorsIn(resource, state);
  if (own !== null) yield* descriptorsIn(ownState, own);
}

/** How many items of a list are written at once: fewer where they have more characters than that. */
const ITEMS = 64;
const CHARACTERS = 64 * 1024;

function* documentTexts(
  { magic, lockServer, adminServer, lockspaces, own }: StateDocument,
  descriptors: Set<number>,
): Generator<string | Buffer> {
  yield '{"daemon":{"servers":{';
  if (adminServer !== null) {
    yield '"admin":';
    yield* serverTexts(adminServer, adminClient, descriptors);
    yield ',';
  }
  yield '"virtlockd":';
  yield* serverTexts(lockServer, lockClient, descriptors);
  yield '}},"defaultLockspace":{';
  let index = 0;
  for (const { directory, resources, texts } of lockspaces) {
    if (index > 0) yield `${index > 1 ? ',' : ''}{"directory":${text.format(directory)},`;
    yield '"resources":';
    if (texts === undefined) yield* listTexts(resources, (state) => write(resource, state, descriptors));
    else yield* joined(texts(descriptors));
    yield index > 0 ? '}' : '},"lockspaces":[';
    index++;
  }
  yield `],"magic":${text.format(magic)}`;
  yield own === null ? '}' : `,"x-virtlockd":${write(ownState, own, descriptors)}}`;
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

function* serverTexts<C extends object>(
  { clients, ...head }: ServerState<C>,
  client: Kind<C>,
  descriptors: Set<number>,
): Generator<string> {
  yield `${write(server, head, descriptors).slice(0, -1)},"clients":`;
  yield* listTexts(clients, (state) => clientText(client, state, descriptors));
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
const clientTexts = new WeakMap<object, string>();

function clientText<C extends object>(client: Kind<C>, state: C, descriptors: Set<number>): string {
  client.collect?.(state, descriptors);
  const known = clientTexts.get(state);
  if (known !== undefined) return known;
  const text = client.format(state);
  clientTexts.set(state, text);
  return text;
}
