/** The last refused acquires: a ring, so that who asks in vain for ever costs no more than a full one. */
import { type ByteString, XdrReader, XdrWriter } from '../../xdr/codec.ts';
import { HolderKind, Identity, type HolderInfo, refusalInfo, type RefusalInfo } from '../../xdr/programs/inquire.ts';
import { list, u32 } from '../../xdr/schema.ts';
import type { Refusal } from '../lockspace/lockspaces.ts';
import { unknownOwner } from '../lockspace/owner.ts';
import { describeOwner } from './owners.ts';
import { printableBytes } from '../log/printable.ts';

/** Refusals remembered, and the most bytes of each of their names: 3 MiB at worst. */
const REMEMBERED = 256;
const NAME_MAX = 4096;
/** The most bytes of refusals that are handed on at a re-execution, for which everybody waits; and what one takes at least. */
const HANDED_ON_BYTES = 32 * 1024;
const ENTRY_SIZE = 250;
/** The form in which they are: to be changed when {@link refusalInfo} is. */
const FORM = 1;
const handedOn = list(refusalInfo, REMEMBERED);

export class Refusals {
  private readonly ring: RefusalInfo[] = [];
  private count = 0;
  private encoded: { readonly count: number; readonly text: string } | undefined;

  /** How many there were. */
  get total(): number {
    return this.count;
  }

  /** Remembers a refusal of now (milliseconds since 1970), and returns what is remembered. */
  add(refusal: Refusal, now: number): RefusalInfo {
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
      owner: describeCut(refusal.hold),
      client: hold.client,
      holder: holderOf(refusal),
    };
    this.ring[this.count % REMEMBERED] = info;
    this.count++;
    return info;
  }

  /** Takes over those that came before all of these: `total` of them, the last of which are in what {@link text} gave. */
  precede(total: number, text: string): void {
    this.count = total;
    for (const info of decode(text)) this.ring[(info.sequence - 1) % REMEMBERED] = info;
  }

  /** The last ones, as many as {@link HANDED_ON_BYTES} allow, for the program that is executed after this one. */
  get text(): string {
    if (this.encoded?.count !== this.count) this.encoded = { count: this.count, text: encode(this.since(0)) };
    return this.encoded.text;
  }

  /** Those that are remembered of the refusals behind the first `after`, oldest first. */
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

function encode(refusals: RefusalInfo[]): string {
  let left = HANDED_ON_BYTES;
  const first = refusals.findLastIndex(({ lockspace, name, path, reason, owner, holder }) => {
    const names = [lockspace, name, path, reason, owner.name, holder?.owner.name ?? ''];
    left -= names.reduce((sum, { length }) => sum + length, ENTRY_SIZE);
    return left < 0;
  });
  const writer = new XdrWriter();
  u32.write(writer, FORM);
  handedOn.write(writer, refusals.slice(first + 1));
  return writer.bytes().toString('base64');
}

/** None where another program wrote them in another form. */
function decode(text: string): RefusalInfo[] {
  try {
    const reader = new XdrReader(Buffer.from(text, 'base64'));
    return u32.read(reader) === FORM ? handedOn.read(reader) : [];
  } catch {
    return [];
  }
}

/** A copy, for a slice would keep the whole alive. */
function cut(text: ByteString): ByteString {
  return text.length > NAME_MAX ? Buffer.from(text.slice(0, NAME_MAX), 'latin1').toString('latin1') : text;
}

function describeCut(hold: Refusal['hold']): RefusalInfo['owner'] {
  const owner = describeOwner(hold.owner);
  return { ...owner, name: cut(owner.name) };
}

function holderOf({ heldBy, pid }: Refusal): HolderInfo | null {
  const [first] = heldBy?.holds ?? [];
  if (heldBy !== undefined && first !== undefined) {
    return { kind: HolderKind.OWNER, owner: describeCut(first), owners: heldBy.holds.length };
  }
  if (pid === 0) return null;
  const kind = pid > 0 ? HolderKind.PROCESS : HolderKind.ELSEWHERE;
  const owner = describeOwner(unknownOwner(Math.max(pid, 0)));
  return { kind, owner: { ...owner, name: cut(owner.name) }, owners: 1 };
}

/** A refusal as the log tells it: names escaped, on one line. */
export function refusalText({ name, lockspace, owner, holder, reason }: RefusalInfo): ByteString {
  const where = lockspace === '' ? '' : ` in lockspace ${printableBytes(lockspace)}`;
  const why = holder === null ? printableBytes(reason) : `held by ${holderText(holder)}`;
  return `Refused '${printableBytes(name)}'${where} to ${ownerText(owner)}: ${why}`;
}

/** `VM "web" (pid 4557)`, or `pid 4557` where the name is not known. */
export function ownerText({ pid, name, identity }: RefusalInfo['owner']): ByteString {
  return identity === Identity.UNKNOWN || name === '' ? `pid ${pid}` : `VM "${printableBytes(name)}" (pid ${pid})`;
}

export function holderText({ kind, owner, owners }: HolderInfo): ByteString {
  switch (kind) {
    case HolderKind.OWNER:
      return `${ownerText(owner)}${owners > 1 ? ` and ${owners - 1} more` : ''}`;
    case HolderKind.PROCESS:
      return `another process, ${ownerText(owner)}`;
    default:
      return 'another host, or a process with an OFD lock';
  }
}
