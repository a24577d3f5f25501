/** Owners of locks that are dead, as the daemon can prove or must suppose. */
import { OwnerLife, type OwnerInfo } from '../../../xdr/programs/inquire.ts';
import { isThere } from '../../proc/processes.ts';
import type { Caller, InquireClient } from './inquire-client.ts';

export class DeadOwners {
  private readonly dead: ReadonlySet<string> | null;
  private readonly present = new Map<number, boolean>();

  /** @param dead null: the daemon does not report them, and /proc is all there is */
  private constructor(dead: ReadonlySet<string> | null) {
    this.dead = dead;
  }

  /** @param pids the owners to ask for; null: all */
  static async ask(daemon: InquireClient<Caller>, pids: readonly number[] | null = null): Promise<DeadOwners> {
    const found = new Set<string>();
    for (const pid of pids === null ? [null] : new Set(pids)) {
      const states = await daemon.owners(pid);
      if (states === null) return new DeadOwners(null);
      for (const { owner, life } of states) {
        if (life === OwnerLife.DEAD || life === OwnerLife.ABSENT) found.add(keyOf(owner));
      }
    }
    return new DeadOwners(found);
  }

  has(owner: OwnerInfo): boolean {
    if (this.dead !== null) return this.dead.has(keyOf(owner));
    const { pid } = owner;
    let isPresent = this.present.get(pid);
    if (isPresent === undefined) {
      // Xen's owners have pid 0: no process's.
      isPresent = pid === 0 || isThere(pid) !== false;
      this.present.set(pid, isPresent);
    }
    return !isPresent;
  }
}

function keyOf({ pid, id, name, uuid }: OwnerInfo): string {
  return `${pid} ${id} ${uuid} ${name}`;
}
