/**
 * Who holds a lock, as the lock file says it to other hosts: the format of a note. The storage helper has the file's (notes.h): a mark of
 * 512 bytes, then 31 slots of 512 bytes. A note fills a slot:
 *
 *     virtlockd holder 1 crc32=89abcdef
 *     host=node7
 *     host-uuid=…
 *     vm=db
 *     uuid=…
 *     pid=4557
 *     mode=exclusive
 *     since=2026-11-30T08:15:00.000Z
 *     owners=1
 *
 * and zeros. The checksum is of all bytes behind its line. Names are in percent-encoding; `host-uuid` may be missing, and readers ignore
 * lines that they do not know. Whoever can write to the storage can write a note, so it is believed for no more than words.
 */
import { hostname } from 'node:os';
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import type { HolderNote } from '../../xdr/programs/inquire.ts';
import { bytesOf } from '../posix/bytes.ts';
import { posix } from '../posix/posix.ts';

/** As NOTE_SIZE, NOTE_SLOTS and NOTE_MARK in notes.h and messages.h. */
export const NOTE_SIZE = 512;
export const NOTE_SLOTS = 31;
export const NOTE_MARK = 'virtlockd holders 1\n';

const HEAD = 'virtlockd holder 1 crc32=';
/** The head, 8 digits and the newline. */
const HEAD_SIZE = HEAD.length + 9;
/** The most bytes of a name in its encoding. A host's name has 64 at most. */
const MAX_HOST = 64;
const MAX_NAME = 180;
const MAX_NUMBER = 0xffff_ffff;

export type { HolderNote };

/** The note in the form of a slot. */
export function writeNote({ host, hostUuid, name, uuid, pid, shared, since, owners }: HolderNote): Buffer {
  const lines = [
    `host=${encode(host, MAX_HOST)}`,
    ...(hostUuid === null ? [] : [`host-uuid=${hostUuid}`]),
    `vm=${encode(name, MAX_NAME)}`,
    `uuid=${uuid}`,
    `pid=${pid}`,
    `mode=${shared ? 'shared' : 'exclusive'}`,
    `since=${new Date(since).toISOString()}`,
    `owners=${owners}`,
  ];
  const slot = Buffer.alloc(NOTE_SIZE);
  slot.write(`${lines.join('\n')}\n`, HEAD_SIZE, 'latin1');
  slot.write(`${HEAD}${checksum(slot)}\n`, 'latin1');
  return slot;
}

/** Null when the bytes are no whole note. */
export function parseNote(slot: Buffer): HolderNote | null {
  if (slot.length !== NOTE_SIZE || slot.toString('latin1', 0, HEAD_SIZE) !== `${HEAD}${checksum(slot)}\n`) return null;
  const values = new Map<string, string>();
  const [text = ''] = slot.toString('latin1', HEAD_SIZE).split('\0', 1);
  for (const line of text.split('\n')) {
    const [, key, value] = /^([a-z-]+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) values.set(key, value);
  }
  const host = decode(values.get('host'), MAX_HOST);
  const name = decode(values.get('vm'), MAX_NAME);
  const uuid = uuidIn(values.get('uuid'));
  const [pid, owners] = [numberIn(values.get('pid')), numberIn(values.get('owners'))];
  const [since, mode] = [timeIn(values.get('since')), values.get('mode')];
  if (host === null || host === '' || name === null || uuid === null || pid === null || owners === null) return null;
  if (since === null || (mode !== 'shared' && mode !== 'exclusive')) return null;
  return { host, hostUuid: uuidIn(values.get('host-uuid')), name, uuid, pid, shared: mode === 'shared', since, owners };
}

function checksum(slot: Buffer): string {
  return (posix.crc32(slot, HEAD_SIZE, NOTE_SIZE) >>> 0).toString(16).padStart(8, '0');
}

/** Cut between two encoded bytes. */
function encode(bytes: ByteString, most: number): string {
  let text = '';
  for (const byte of bytes) {
    const next = /[\w.-]/.test(byte) ? byte : `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`;
    if (text.length + next.length > most) break;
    text += next;
  }
  return text;
}

function decode(text: string | undefined, most: number): ByteString | null {
  if (text === undefined || text.length > most || !/^(?:[\w.-]|%[0-9a-f]{2})*$/.test(text)) return null;
  return text.replaceAll(/%(..)/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 16)));
}

function uuidIn(text: string | undefined): string | null {
  return text !== undefined && /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text) ? text : null;
}

function numberIn(text: string | undefined): number | null {
  const number = text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : null;
  return number === null || number > MAX_NUMBER ? null : number;
}

/** In milliseconds since 1970. */
function timeIn(text: string | undefined): number | null {
  const time = text !== undefined && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text) ? Date.parse(text) : NaN;
  return time >= 0 ? time : null;
}

/** This host, for a note. Its name may change at any time. */
export function thisHost(): Pick<HolderNote, 'host' | 'hostUuid'> {
  return { host: bytesOf(hostname()), hostUuid: (hostUuid ??= readHostUuid()).uuid };
}

let hostUuid: { readonly uuid: string | null } | undefined;

/** As libvirt has it where its configuration gives no other. */
function readHostUuid(): { readonly uuid: string | null } {
  try {
    return { uuid: uuidIn(readFileSync('/sys/class/dmi/id/product_uuid', 'latin1').trim().toLowerCase()) };
  } catch {
    return { uuid: null };
  }
}
