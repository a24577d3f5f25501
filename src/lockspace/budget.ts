/**
 * Bounds the memory that clients can make the daemon use. At the limit of its heap the runtime aborts the process, and every lock
 * is lost; so the daemon refuses an acquire long before.
 *
 * A hold has a cost in bytes, which is added with the hold and subtracted with its release: nothing is measured. The cost is at least
 * the heap that the hold takes when the heap is fullest, while a restart parses and adopts the document: by experiment 1200 to 1400
 * bytes for a lock, and its name and path. It is also about the hold's part of the document, which the runtime must read as one
 * string: see {@link MAX_TOTAL}.
 *
 * The limits refuse only: they take nothing back, and never a release.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError } from '../libvirt/errors.ts';

/** A hold and its resource without their names: 560 bytes of the document, more of the heap. */
const HOLD_COST = 1280;
/** A lockspace without its directory. */
const LOCKSPACE_COST = 1024;
/** A control character has six bytes in the document: `\u0001`. */
const ESCAPED = 6;
/** Up to this length a name costs its length, without a search for bytes to be escaped: that would slow an acquire down. */
const UNSEEN = 128;
/** Up to this length the name of a registered owner costs nothing. */
const NAME_FREE = 1024;

/**
 * The most that all holds may cost, whatever the heap. The runtime has no string longer than 512 MiB. With names of
 * {@link UNSEEN} control characters, the worst case, the document is 1.35 times the cost, and so at most 454 MiB: the rest is
 * for lockspaces, registered owners and messages under way.
 */
const MAX_TOTAL = 336 * 1024 * 1024;
/** The part of the heap's limit: the other half is for garbage, messages under way and everything else. */
const HEAP_SHARE = 1 / 2;
/** The part of the total that the holds of one owner, and those acquired through one connection, may cost. */
const ONE_SHARE = 3 / 4;
/** The part of the total that lockspaces may cost, which never end; and the part for long names of registered owners. */
const REST_SHARE = 1 / 16;
/** Below this, no limit is looked up: that loads a module of the runtime, for which the clients of a young daemon would wait. */
const FREE = 4 * 1024 * 1024;
const REST_FREE = FREE * REST_SHARE;

export interface Limits {
  readonly total: number;
  /** For one owner, and for one connection. */
  readonly one: number;
  readonly lockspaces: number;
  readonly names: number;
}

/** @param heap the most bytes that the runtime's heap may have */
export function limitsFor(heap: number): Limits {
  const total = Math.floor(Math.min(heap * HEAP_SHARE, MAX_TOTAL));
  const rest = Math.floor(total * REST_SHARE);
  return { total, one: Math.floor(total * ONE_SHARE), lockspaces: rest, names: rest };
}

/** The most bytes that the runtime's heap may have: by the machine's memory, a cgroup's limit, or --max-old-space-size. */
export function heapLimit(): number {
  return process.getBuiltinModule('node:v8').getHeapStatistics().heap_size_limit;
}

/** The cost of the holds of an owner, or of a connection. */
export interface Account {
  cost: number;
}

/** Refuses a call that would cost too much. */
export class LimitError extends RpcError {
  constructor(domain: ErrorDomain, what: string, limit: number) {
    super(ErrorCode.INTERNAL_ERROR, domain, `out of memory: ${what} may take ${limit} bytes of it`);
  }
}

/** The cost of a hold of the owner on the resource. */
export function holdCost(directory: ByteString, name: ByteString, owner: ByteString): number {
  // The document has a resource's name twice, alone and in its path, and the owner's name with the hold and with the owner's end.
  return HOLD_COST + ESCAPED * directory.length + 2 * nameCost(name) + 2 * ESCAPED * owner.length;
}

function nameCost(name: ByteString): number {
  return name.length <= UNSEEN ? name.length : JSON.stringify(name).length;
}

export class Budget {
  private readonly lookUp: () => Limits;
  private known: Limits | undefined;
  private holds = 0;
  private lockspaces = 0;
  private names = 0;

  constructor(lookUp: () => Limits = () => limitsFor(heapLimit())) {
    this.lookUp = lookUp;
  }

  get limits(): Limits {
    return (this.known ??= this.lookUp());
  }

  /** The cost of all holds. */
  get used(): number {
    return this.holds;
  }

  /** @throws LimitError when one more hold of that cost is too much for its owner, its connection or in all */
  admit(cost: number, owner: Account | undefined, client: Account | undefined): void {
    const total = this.holds + cost;
    if (this.known === undefined && total <= FREE) return;
    const { limits } = this;
    if (total > limits.total) throw new LimitError(ErrorDomain.LOCKSPACE, 'the locks of all owners', limits.total);
    if ((owner?.cost ?? 0) + cost > limits.one) {
      throw new LimitError(ErrorDomain.LOCKSPACE, 'the locks of one owner', limits.one);
    }
    if ((client?.cost ?? 0) + cost > limits.one) {
      throw new LimitError(ErrorDomain.LOCKSPACE, 'the locks acquired through one connection', limits.one);
    }
  }

  /** Adds the cost of a hold; negative for one that was released. */
  count(cost: number): void {
    this.holds += cost;
  }

  /** @throws LimitError when one more lockspace is too much */
  admitLockspace(directory: ByteString): void {
    const total = this.lockspaces + lockspaceCost(directory);
    if (total <= REST_FREE || total <= this.limits.lockspaces) return;
    throw new LimitError(ErrorDomain.LOCKSPACE, 'lockspaces', this.limits.lockspaces);
  }

  addLockspace(directory: ByteString): void {
    this.lockspaces += lockspaceCost(directory);
  }

  /**
   * A connection registers another owner's name; an empty name stands for no owner.
   *
   * @throws LimitError when that is too much. A name of ordinary length never is, so everybody can register and release
   */
  replaceName(before: ByteString, after: ByteString): void {
    const added = registeredCost(after) - registeredCost(before);
    const total = this.names + added;
    if (added > 0 && total > REST_FREE && total > this.limits.names) {
      throw new LimitError(ErrorDomain.RPC, 'long names of registered owners', this.limits.names);
    }
    this.names = total;
  }

  /** Counts the name of a registered owner that was granted before a restart, whatever the limit. */
  addName(name: ByteString): void {
    this.names += registeredCost(name);
  }
}

function lockspaceCost(directory: ByteString): number {
  return LOCKSPACE_COST + ESCAPED * directory.length;
}

function registeredCost(name: ByteString): number {
  return name.length <= NAME_FREE ? 0 : ESCAPED * name.length;
}
