/**
 * Finds the lists of resources in the bytes of a document, and reads their items one by one during iteration. If JSON.parse made
 * objects of a hundred thousand at once, the heap would copy them from one generation to the next while every client waits.
 */
import { posix, ResourcePlace } from '../posix/posix.ts';
import type { ByteString } from '../../xdr/codec.ts';
import type { HoldState, ResourceState } from '../lockspace/state.ts';

/** Quotes inside of strings are escaped, so none of these can be part of a string. */
const DEFAULT_LIST = ',"defaultLockspace":{"resources":[';
const DEFAULT_END = ']},"lockspaces":[';
const NAMED_LIST = ',"resources":[';
const NAMED_END = ']},{"directory":"';
const LAST_END = ']}],"magic":"';
const NO_NAMED = '],"magic":"';

/** Resources in one call of the scanner. */
const BATCH = 256;
/** In place of a start time. */
const UNKNOWN = -2;
/** The members of a hold that all holds of an owner share. */
type OwnerMembers = Pick<HoldState, 'id' | 'name' | 'uuid'>;

export interface Readers {
  /** Reads the text of a resource. */
  readonly resource: (text: string) => ResourceState;
  /** Reads the text of such members. */
  readonly owner: (members: string) => OwnerMembers;
  readonly fail: (problem: string) => never;
}

/** The method behind toString('latin1'), called directly: there may be several hundred thousand strings. */
type Latin1Bytes = Buffer & { latin1Slice(from: number, to: number): ByteString };

function latin1(bytes: Buffer, from: number, to = bytes.length): ByteString {
  return (bytes as Latin1Bytes).latin1Slice(from, to);
}

export class ResourceList {
  private readonly bytes: Buffer;
  private readonly begin: number;
  private readonly end: number;

  constructor(bytes: Buffer, begin: number, end: number) {
    this.bytes = bytes;
    this.begin = begin;
    this.end = end;
  }

  /** @throws what the readers throw */
  *read({ resource, owner, fail }: Readers): Generator<ResourceState> {
    const { bytes, end } = this;
    const places = new Float64Array(BATCH * ResourcePlace.FIELDS);
    let members: OwnerMembers = { id: 0, name: '', uuid: '' };
    let inode = '';
    for (let at = this.begin; at < end;) {
      const count = posix.scanResources(bytes, at, end, places);
      if (count < 0) fail(`no resource where one should be, behind byte ${at}`);
      for (let base = 0; base < count * ResourcePlace.FIELDS; base += ResourcePlace.FIELDS) {
        const stop = places[base + ResourcePlace.END] ?? end;
        if ((places[base + ResourcePlace.FD] ?? -1) < 0) yield resource(latin1(bytes, at, stop));
        else {
          const ownerAt = places[base + ResourcePlace.OWNER] ?? -1;
          if (ownerAt >= 0) members = owner(latin1(bytes, ownerAt, places[base + ResourcePlace.OWNER_END]));
          const inodeAt = places[base + ResourcePlace.INODE] ?? -1;
          if (inodeAt >= 0) inode = latin1(bytes, inodeAt, places[base + ResourcePlace.INODE_END]);
          yield usual(bytes, places, base, members, inode);
        }
        at = stop + 1;
      }
    }
  }
}

function usual(
  bytes: Buffer,
  places: Float64Array,
  base: number,
  { id, name: ownerName, uuid }: OwnerMembers,
  inode: string,
): ResourceState {
  const name = latin1(bytes, places[base + ResourcePlace.NAME] ?? 0, places[base + ResourcePlace.NAME_END]);
  const path = places[base + ResourcePlace.PATH] ?? -1;
  const start = places[base + ResourcePlace.START] ?? UNKNOWN;
  return {
    name,
    path: path < 0 ? name : latin1(bytes, path, places[base + ResourcePlace.PATH_END]),
    fd: places[base + ResourcePlace.FD] ?? 0,
    lockHeld: true,
    flags: places[base + ResourcePlace.FLAGS] ?? 0,
    owners: [places[base + ResourcePlace.PID] ?? 0],
    'x-holds': [
      {
        id,
        name: ownerName,
        uuid,
        since: places[base + ResourcePlace.SINCE] ?? 0,
        client: places[base + ResourcePlace.CLIENT] ?? 0,
        start: start === UNKNOWN ? undefined : start,
      },
    ],
    'x-inode': inode,
    'x-lock': places[base + ResourcePlace.OFD] === 1 ? 'ofd' : undefined,
  };
}

/** The bytes of a document without its resources, and the lists of them. */
export interface Parts {
  readonly frame: ByteString;
  /** The default lockspace's comes first. */
  readonly lists: readonly ResourceList[];
}

/** Null when the document is not in the form that this daemon writes. */
export function partDocument(bytes: Buffer): Parts | null {
  const found = bytes.indexOf(DEFAULT_LIST, 0, 'latin1');
  const begin = found + DEFAULT_LIST.length;
  const end = found < 0 ? -1 : bytes.indexOf(DEFAULT_END, begin, 'latin1');
  if (end < 0) return null;
  const lists = [new ResourceList(bytes, begin, end)];
  let frame = latin1(bytes, 0, begin);
  let at = end;
  const named = end + DEFAULT_END.length;
  if (latin1(bytes, named, named + NO_NAMED.length) !== NO_NAMED) {
    const last = bytes.lastIndexOf(LAST_END, undefined, 'latin1');
    for (let next = end; next < last;) {
      const list = bytes.indexOf(NAMED_LIST, next, 'latin1');
      if (list < 0 || list > last) return null;
      const from = list + NAMED_LIST.length;
      const to = bytes.indexOf(NAMED_END, from, 'latin1');
      next = to < 0 || to > last ? last : to;
      frame += latin1(bytes, at, from);
      lists.push(new ResourceList(bytes, from, next));
      at = next;
    }
  }
  return { frame: frame + latin1(bytes, at), lists };
}
