/** The last refused acquires, in a ring: endless refusals take no more memory than a full one. */
import { type ByteString, XdrReader, XdrWriter } from '../../xdr/codec.ts';
import {
  HolderKind,
  type HolderInfo,
  type HolderNote,
  Identity,
  NOTES_MAX,
  refusalInfo,
  type RefusalInfo,
  refusalNotes,
  type RefusalNotes,
} from '../../xdr/programs/inquire.ts';
import { list, u32 } from '../../xdr/schema.ts';
import type { Refusal } from '../lockspace/lockspaces.ts';
import { type OwnerIdentity, unknownOwner } from '../lockspace/owner.ts';
import { describeOwner } from './owners.ts';
import { printableBytes } from '../log/printable.ts';

/** Size of the ring, and the most bytes of each name in it: 6 MiB at worst, for six names. */
const REMEMBERED = 256;
const MAX_NAME = 4096;
/** The most bytes of refusals that a re-execution carries over, while clients wait; and what one is charged beside its names, and each of its notes. */
const HANDED_ON_BYTES = 32 * 1024;
const ENTRY_SIZE = 250;
const NOTE_BYTES = 400;
/** Version of their encoding: to be changed with {@link refusalInfo}. */
const FORM = 1;
const handedOn = list(refusalInfo, REMEMBERED);
/** Behind them, since notes are known. */
const handedOnNotes = list(refusalNotes, REMEMBERED);

export class Refusals {
  private readonly ring: RefusalInfo[] = [];
  /** By sequence: as many as there are refusals in the ring, at most. */
  private readonly notes = new Map<number, readonly HolderNote[]>();
  private count = 0;
  private encoded: { readonly count: number; readonly text: string } | undefined;

  /** The number of refusals so far. */
  get total(): number {
    return this.count;
  }

  /** Records a refusal. @param now milliseconds since 1970 */
  add(refusal: Refusal, now: number, inTheWay = holderOf(refusal)): RefusalInfo {
    const { lockspace, name, path, mode, error, hold } = refusal;
    const info: RefusalInfo = {
      sequence: this.count + 1,
      time: now,
      lockspace: cut(lockspace),
      name: cut(name),
      path: cut(path),
      flags: mode.flags,
      code: error.code,
      reason: cut(error.message),
      owner: describeCut(refusal.hold.owner),
      client: hold.client,
      holder: inTheWay === null ? null : { ...inTheWay, owner: describeCut(inTheWay.owner) },
    };
    this.ring[this.count % REMEMBERED] = info;
    this.count++;
    this.notes.delete(this.count - REMEMBERED);
    return info;
  }

  /** What the holders have noted, of whom there may be very many: as many are kept as an answer has room for. */
  addNotes({ sequence }: RefusalInfo, notes: readonly HolderNote[]): void {
    if (notes.length === 0 || sequence <= this.count - REMEMBERED) return;
    this.notes.set(sequence, notes.slice(0, NOTES_MAX));
    this.encoded = undefined;
  }

  notesOf({ sequence }: RefusalInfo): readonly HolderNote[] {
    return this.notes.get(sequence) ?? [];
  }

  /** The notes of {@link since}. */
  notesSince(after: number): RefusalNotes[] {
    const found = Array.from(this.notes, ([sequence, notes]) => ({ sequence, notes: [...notes] }));
    return found.filter(({ sequence }) => sequence > after).sort((one, other) => one.sequence - other.sequence);
  }

  /** Describes again, as more may be known, who was in the way. Returns the refusal. */
  describeHolder(info: RefusalInfo, { kind, owner }: InTheWay): RefusalInfo {
    if (info.holder === null) return info;
    const described = { ...info, holder: { ...info.holder, kind, owner: describeCut(owner) } };
    const place = (info.sequence - 1) % REMEMBERED;
    if (this.ring[place] === info) this.ring[place] = described;
    this.encoded = undefined;
    return described;
  }

  /** Takes over the refusals of the previous program: their number, and the last of them as encoded by {@link text}. */
  precede(total: number, text: string): void {
    this.count = total;
    const { refusals, notes } = decode(text);
    for (const info of refusals) this.ring[(info.sequence - 1) % REMEMBERED] = info;
    for (const { sequence, notes: found } of notes) this.notes.set(sequence, found);
  }

  /** The last refusals, as many as {@link HANDED_ON_BYTES} allow, for the next program. */
  get text(): string {
    if (this.encoded?.count !== this.count) this.encoded = { count: this.count, text: this.encode() };
    return this.encoded.text;
  }

  private encode(): string {
    const refusals = this.since(0);
    let left = HANDED_ON_BYTES;
    const last = refusals.findLastIndex((info) => {
      const { lockspace, name, path, reason, owner, holder } = info;
      const names = [lockspace, name, path, reason, owner.name, holder?.owner.name ?? ''];
      left -= names.reduce((sum, { length }) => sum + length, ENTRY_SIZE + NOTE_BYTES * this.notesOf(info).length);
      return left < 0;
    });
    const handed = refusals.slice(last + 1);
    const writer = new XdrWriter();
    u32.write(writer, FORM);
    handedOn.write(writer, handed);
    handedOnNotes.write(writer, this.notesSince((handed[0]?.sequence ?? this.count + 1) - 1));
    return writer.bytes().toString('base64');
  }

  /** The refusals in the ring with a sequence above `after`, oldest first. */
  since(after: number): RefusalInfo[] {
    const first = Math.max(after, this.count - REMEMBERED);
    const found: RefusalInfo[] = [];
    for (let index = first; index < this.count; index++) {
      const info = this.ring[index % REMEMBERED];
      if (info !== undefined) found.push(info);
    }
    return found;
  }
}

/** Empty if another program encoded them differently. */
function decode(text: string): { refusals: RefusalInfo[]; notes: RefusalNotes[] } {
  try {
    const reader = new XdrReader(Buffer.from(text, 'base64'));
    const refusals = u32.read(reader) === FORM ? handedOn.read(reader) : [];
    return { refusals, notes: reader.remaining > 0 ? handedOnNotes.read(reader) : [] };
  } catch {
    return { refusals: [], notes: [] };
  }
}

/** Copies, for a slice would keep the whole text alive. */
function cut(text: ByteString): ByteString {
  return text.length > MAX_NAME ? Buffer.from(text.slice(0, MAX_NAME), 'latin1').toString('latin1') : text;
}

function describeCut(identity: OwnerIdentity): RefusalInfo['owner'] {
  const owner = describeOwner(identity);
  return { ...owner, name: cut(owner.name) };
}

/** Who is in the way of an acquire: the first of `owners`. */
export interface InTheWay {
  readonly kind: HolderInfo['kind'];
  readonly owner: OwnerIdentity;
  readonly owners: number;
}

export function holderOf({ heldBy, pid }: Refusal): InTheWay | null {
  const [first] = heldBy?.holds ?? [];
  if (heldBy !== undefined && first !== undefined) {
    return { kind: HolderKind.OWNER, owner: first.owner, owners: heldBy.holdCount };
  }
  if (pid === 0) return null;
  return pid < 0 ? elsewhere() : { kind: HolderKind.PROCESS, owner: unknownOwner(pid), owners: 1 };
}

export function elsewhere(): InTheWay {
  return { kind: HolderKind.ELSEWHERE, owner: unknownOwner(0), owners: 1 };
}

/** One line for the log, with names escaped. */
export function refusalText(
  { name, lockspace, owner, holder, reason }: RefusalInfo,
  notes: readonly HolderNote[] = [],
): ByteString {
  const where = lockspace === '' ? '' : ` in lockspace ${printableBytes(lockspace)}`;
  const [note] = notes;
  const by = holder === null ? '' : note === undefined ? holderText(holder) : noteText(note, notes.length - 1);
  const why = holder === null ? printableBytes(reason) : `held by ${by}`;
  return `Refused '${printableBytes(name)}'${where} to ${ownerText(owner)}: ${why}`;
}

/** `VM "web" (pid 4557)`, or `pid 4557` without a name. */
function ownerText({ pid, name, identity }: RefusalInfo['owner']): ByteString {
  return identity === Identity.UNKNOWN || name === '' ? `pid ${pid}` : `VM "${printableBytes(name)}" (pid ${pid})`;
}

function holderText({ kind, owner, owners }: HolderInfo): ByteString {
  switch (kind) {
    case HolderKind.OWNER:
      return `${ownerText(owner)}${owners > 1 ? ` and ${owners - 1} more` : ''}`;
    case HolderKind.PROCESS:
      return `another process, ${ownerText(owner)}`;
    default:
      return 'another host, or a process with an OFD lock';
  }
}

function noteText({ host, name, pid, since }: HolderNote, more: number): ByteString {
  const who = ownerText({ pid, id: 0, name, uuid: '', identity: Identity.REGISTERED });
  const others = more > 0 ? `, and ${more} more` : '';
  return `${who} on host ${printableBytes(host)}, since ${new Date(since).toISOString()}${others}`;
}
