/** A client of the lock program: what it registered, and whether it may still call. */
import type { Connection } from '../rpc/connection.ts';
import type { OwnerIdentity } from '../lockspace/owner.ts';

export class LockClient {
  readonly connection: Connection;
  /** On whose behalf it calls; null until it registers. */
  owner: OwnerIdentity | null = null;
  /** Every further call is refused. */
  restricted = false;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Whether the peer is the owner itself, so that its end is the owner's: not libvirtd acting for it. */
  get isOwnerItself(): boolean {
    return this.owner !== null && this.owner.pid === this.connection.peer.pid;
  }
}
