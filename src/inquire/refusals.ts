/** The last refused acquires: a ring, so that who asks in vain for ever costs no more than a full one. */
import type { ByteString } from '../../xdr/codec.ts';
import { HolderKind, Identity, type HolderInfo, type RefusalInfo } from '../../xdr/programs/inquire.ts';
import type { Refusal } from '../lockspace/lockspaces.ts';
import { unknownOwner } from '../lockspace/owner.ts';
import { describeOwner } from './owners.ts';
import { printableBytes } from './printable.ts';

/** Refusals remembered, and the most bytes of each of their names: 3 MiB at worst. */
const REMEMBERED = 256;
const NAME_MAX = 4096;

export class Refusals {
  private readonly ring: RefusalInfo[] = [];
  private count = 0;

  /** How many there were. */
  get total(): number {
    return this.count;
  }

  /** Remembers a refusal of now (milliseconds since 1970), and returns what is remembered. */
  add(refusal: Refusal, now: number): RefusalInfo {
    const { lockspace, name, path, flags, error, hold } = refusal;
    const info: RefusalInfo = {
      sequence: this.count + 1,
      time: now,
      lockspace: cut(lockspace),
      name: cut(name),
      path: cut(path),
      flags,
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

function cut(text: ByteString): ByteString {
  return text.length > NAME_MAX ? text.slice(0, NAME_MAX) : text;
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
