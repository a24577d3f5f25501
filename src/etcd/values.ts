/** What the value of a lock's key says to other hosts, in JSON. Whoever may write to etcd may write it, so it is believed for words only. */
import type { ByteString } from '../../xdr/codec.ts';
import type { HolderNote } from '../../xdr/programs/inquire.ts';
import type { LockMode } from '../lockspace/mode.ts';
import type { Hold } from '../lockspace/owner.ts';
import { thisHost } from '../storage/holder-note.ts';

/** Owners that a value names. */
const MAX_OWNERS = 32;
/** Bytes of the name of a VM, of a UUID, and of the name of a host. */
const MAX_NAME = 256;
const MAX_UUID = 36;
const MAX_HOST = 64;
/** The last moment that a Date can be, in milliseconds since 1970. */
const MAX_TIME = 8.64e15;

/** An owner of a lock on any host. */
export interface OwnerNote {
  readonly name: ByteString;
  readonly uuid: string;
  readonly pid: number;
}

export interface LockNote {
  readonly host: ByteString;
  readonly hostUuid: string | null;
  readonly mode: 'shared' | 'exclusive';
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly owners: readonly OwnerNote[];
  /** Of all owners. */
  readonly count: number;
}

/** @param nonce unlike that of any other value of this host */
export function valueOf(mode: LockMode, holds: readonly Hold[], nonce: string): ByteString {
  const note: LockNote & { nonce: string } = {
    ...thisHost(),
    mode: mode.shared ? 'shared' : 'exclusive',
    since: holds[0]?.since ?? 0,
    owners: holds
      .slice(0, MAX_OWNERS)
      .map(({ owner: { name, uuid, pid } }) => ({ name: name.slice(0, MAX_NAME), uuid, pid })),
    count: holds.length,
    nonce,
  };
  return JSON.stringify(note);
}

/** As much of it as an answer has room for. Null when it is no value of a lock. */
export function parseValue(value: ByteString): LockNote | null {
  try {
    const { host, hostUuid, mode, since, owners, count } = JSON.parse(value) as Partial<LockNote>;
    if (typeof host !== 'string' || typeof since !== 'number' || !Array.isArray(owners)) return null;
    const known = (owners as Partial<OwnerNote>[]).flatMap(({ name, uuid, pid }) =>
      typeof name === 'string' && typeof uuid === 'string' && typeof pid === 'number'
        ? [{ name: name.slice(0, MAX_NAME), uuid: uuid.slice(0, MAX_UUID), pid: pid >>> 0 }]
        : [],
    );
    return {
      host: host.slice(0, MAX_HOST),
      hostUuid: typeof hostUuid === 'string' ? hostUuid.slice(0, MAX_UUID) : null,
      mode: mode === 'shared' ? 'shared' : 'exclusive',
      since: Number.isSafeInteger(since) && since >= 0 && since <= MAX_TIME ? since : 0,
      owners: known,
      count: typeof count === 'number' ? count >>> 0 : known.length,
    };
  } catch {
    return null;
  }
}

/** As the notes in lock files. */
export function noteIn(value: ByteString): HolderNote | null {
  const note = parseValue(value);
  const [first] = note?.owners ?? [];
  if (note === null || first === undefined) return null;
  const { host, hostUuid, mode, since, count } = note;
  return { host, hostUuid, ...first, shared: mode === 'shared', since, owners: count };
}
