/** The release of a resource that a storage helper does or has tried, until it is done. */
import type { RpcError } from '../libvirt/errors.ts';
import { Waiters } from '../rpc/waiting.ts';

export class Release extends Waiters {
  /** The owner whose call releases it; 0: its end, or the daemon's. */
  readonly by: number;
  /** Begun by the previous program: the owner's call comes again. */
  readonly isRestored: boolean;
  /** Why it takes so long that calls do not wait any longer: it goes on. Null: they wait. */
  failure: RpcError | null = null;

  constructor(by: number, isRestored = false) {
    super();
    this.by = by;
    this.isRestored = isRestored;
  }
}
