/** The last refused acquires, in a ring: endless refusals take no more memory than a full one. */
import { type ByteString, XdrReader, XdrWriter } from '../../xdr/codec.ts';
import { HolderKind, Identity, type HolderInfo, refusalInfo, type RefusalInfo } from '../../xdr/programs/inquire.ts';
import { list, u32 } from '../../xdr/schema.ts';
import type { Refusal } from '../lockspace/lockspaces.ts';
import { unknownOwner } from '../lockspace/owner.ts';
import { describeOwner } from './owners.ts';
import { printableBytes } from '../log/printable.ts';

/** Size of the ring, and the most bytes of each name in it: 6 MiB at worst, for six names. */
const REMEMBERED = 256;
const NAME_MAX = 4096;
/** The most bytes of refusals that a re-execution carries over, while clients wait; and what one is charged beside its names. */
const HANDED_ON_BYTES = 32 * 1024;
const ENTRY_SIZE = 250;
/** Version of their encoding: to be changed with {@link refusalInfo}. */
const FORM = 1;
const handedOn = list(refusalInfo, REMEMBERED);

export class Refusals {
  private readonly ring: RefusalInfo[] = [];
  private count = 0;
  private encoded: { readonly count: number; readonly text: string } | undefined;

  /** The number of refusals so far. */
  get total(): number {
    return this.count;
  }

  /** Records a refusal. @param now milliseconds since 1970 */
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

  /** Takes over the refusals of the previous program: their number, and the last of them as encoded by {@link text}. */
  precede(total: number, text: string): void {
    this.count = total;
    for (const info of decode(text)) this.ring[(info.sequence - 1) % REMEMBERED] = info;
  }

  /** The last refusals, as many as {@link HANDED_ON_BYTES} allow, for the next program. */
  get text(): string {
    if (this.encoded?.count !== this.count) this.encoded = { count: this.count, text: encode(this.since(0)) };
    return this.encoded.text;
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

/** Empty if another program encoded them differently. */
function decode(text: string): RefusalInfo[] {
  try {
    const reader = new XdrReader(Buffer.from(text, 'base64'));
    return u32.read(reader) === FORM ? handedOn.read(reader) : [];
  } catch {
    return [];
  }
}

/** Copies, for a slice would keep the whole text alive. */
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

/** One line for the log, with names escaped. */
export function refusalText({ name, lockspace, owner, holder, reason }: RefusalInfo): ByteString {
  const where = lockspace === '' ? '' : ` in lockspace ${printableBytes(lockspace)}`;
  const why = holder === null ? printableBytes(reason) : `held by ${holderText(holder)}`;
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
