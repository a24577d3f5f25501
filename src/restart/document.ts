/**
 * The state document that a program leaves to the next one across exec, in the form that the C daemon writes and reads. Our own
 * additions are keys that begin with `x-`: every other reader ignores them, and this one works without them.
 *
 * Strings are bytes (latin1), as everywhere: C writes names raw.
 */
import { constants, isAscii } from 'node:buffer';
import type { ByteString } from '../../xdr/codec.ts';
import { own as ownKind, type OwnState } from '../daemon/state.ts';
import { subscriptionFields } from '../inquire/state.ts';
import { localityFields, registration } from '../lockd/state.ts';
import { resource, type ResourceState } from '../lockspace/state.ts';
import { complainOfConnection, connectionFields, peerFields, server, type ServerHead } from '../rpc/state.ts';
import { defaulted, descriptorsIn, type Kind, nothing, object, type StateOf, text, write } from '../state/state.ts';

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
  /** Lazily: those of a running daemon, each as it is when its turn comes. */
  readonly clients: Iterable<C>;
  /** The text of each client, if it may be known already; adds their descriptors. */
  readonly texts?: (descriptors: Set<number>) => Iterable<string>;
}

export interface LockspaceState {
  readonly directory: ByteString;
  readonly resources: Iterable<ResourceState>;
  /**
   * The text of the resources, if it may be known already: some resources in each, with a comma before. Adds their descriptors.
   */
  readonly texts?: (descriptors: Set<number>) => Iterable<Buffer>;
}

export interface StateDocument {
  readonly magic: string;
  readonly lockServer: ServerState<LockClientState>;
  /** Absent from documents of libvirt 1.x. */
  readonly adminServer: ServerState<AdminClientState> | null;
  /** The default one, whose directory is empty, comes first. To be iterated in order. */
  readonly lockspaces: Iterable<LockspaceState>;
  readonly own: OwnState | null;
}

/** The largest document that this implementation reads: the runtime has no longer string. */
export const MAX_DOCUMENT = constants.MAX_STRING_LENGTH;

/** The document's bytes: without white space, for C's limit, and with the keys in C's order. */
export function formatDocument(document: StateDocument): Buffer {
  return Buffer.concat([...formatPieces(document)]);
}

/**
 * As {@link formatDocument}, in pieces: with a hundred thousand locks it takes long.
 *
 * @param descriptors gets every descriptor that is written: these are to outlive exec
 */
export function* formatPieces(document: StateDocument, descriptors = new Set<number>()): Generator<Buffer> {
  for (const text of documentTexts(document, descriptors)) {
    yield typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
  }
}

/**
 * The descriptors that a document names, some more than once. As lazy as the document: for a running daemon, those of this moment.
 */
export function* descriptorsOf({ lockServer, adminServer, lockspaces, own }: StateDocument): Generator<number> {
  if (adminServer !== null) {
    yield* descriptorsIn(server, adminServer);
    for (const client of adminServer.clients) yield* descriptorsIn(adminClient, client);
  }
  yield* descriptorsIn(server, lockServer);
  for (const client of lockServer.clients) yield* descriptorsIn(lockClient, client);
  for (const { resources } of lockspaces) for (const state of resources) yield* descriptorsIn(resource, state);
  if (own !== null) yield* descriptorsIn(ownKind, own);
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
    if (texts === undefined) yield* listTexts(mapped(resources, (state) => write(resource, state, descriptors)));
    else yield* joined(texts(descriptors));
    yield index > 0 ? '}' : '},"lockspaces":[';
    index++;
  }
  yield `],"magic":${text.format(magic)}`;
  yield own === null ? '}' : `,"x-virtlockd":${write(ownKind, own, descriptors)}}`;
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

function* listTexts(items: Iterable<string>): Generator<string> {
  yield '[';
  let texts: string[] = [];
  let length = 0;
  let comma = '';
  for (const text of items) {
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
  { clients, texts, ...head }: ServerState<C>,
  client: Kind<C>,
  descriptors: Set<number>,
): Generator<string> {
  yield `${write(server, head, descriptors).slice(0, -1)},"clients":`;
  yield* listTexts(texts?.(descriptors) ?? mapped(clients, (state) => write(client, state, descriptors)));
  yield '}';
}

export function* mapped<T, U>(items: Iterable<T>, change: (item: T) => U): Generator<U> {
  for (const item of items) yield change(item);
}

/**
 * Escapes all letters beyond ASCII in a document of UTF-8. Every C daemon that resumes can read that; 11.3.0 refuses such letters
 * unescaped, in its own documents too, and exits with every lock lost.
 */
export function asciiDocument(document: Buffer): Buffer {
  if (isAscii(document)) return document;
  const escaped = document
    .toString('utf8')
    .replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return Buffer.from(escaped, 'latin1');
}
