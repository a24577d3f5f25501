/** A client of the lock program: what it registered, and whether it may still call. */
import type { ByteString } from '../../xdr/codec.ts';
import { NO_PROCESS, type OwnerIdentity } from '../lockspace/owner.ts';
import type { Lockspaces } from '../lockspace/lockspaces.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import type { Connection } from '../rpc/connection.ts';
import type { ProcessHost } from './process-host.ts';

/** What the lock program needs of the daemon it runs in. */
export interface LockHost {
  readonly lockspaces: Lockspaces;
  readonly dialect: Dialect;
  readonly processes: Pick<ProcessHost, 'isLocal' | 'startTime'>;
  /** What outlives a restart has changed of a client. */
  clientChanged(client: LockClient): void;
}

export class LockClient {
  readonly connection: Connection;
  readonly host: LockHost;
  /** On whose behalf it calls; null until it registers. */
  owner: OwnerIdentity | null = null;
  /** Every further call is refused. */
  restricted = false;
  /** The peer is in the daemon's pid namespace: only then the pids that it names mean anything here. Undefined until asked. */
  isLocal: boolean | undefined;
  /** When the peer started that is the owner itself, if that is known: its connection may outlive it in a child. */
  peerStart: number | undefined;

  constructor(connection: Connection, host: LockHost) {
    this.connection = connection;
    this.host = host;
    // Of a peer in another namespace that is none of those below it, the kernel tells no pid.
    if (connection.peer.pid === 0) this.isLocal = false;
  }

  /** Whether the peer is the owner itself, so that its end is the owner's: not libvirtd acting for it. */
  get isOwnerItself(): boolean {
    return this.owner !== null && this.owner.pid === this.connection.peer.pid && this.isLocal !== false;
  }

  /** Empty when nobody is registered. */
  get ownerName(): ByteString {
    return this.owner?.name ?? '';
  }

  /** Takes the details that the peer registered. @throws LimitError */
  register(owner: OwnerIdentity): void {
    this.host.lockspaces.budget.replaceName(this.ownerName, owner.name);
    this.owner = owner;
    const { pid, startTime } = this.connection.peer;
    // While it waits for the answer it is there to be asked about; at its end it may be gone.
    if (owner.pid === pid) {
      this.isLocal ??= this.host.processes.isLocal(pid);
      this.peerStart ??= startTime ?? this.host.processes.startTime(pid) ?? undefined;
    }
    this.host.clientChanged(this);
  }

  restrict(): void {
    this.restricted = true;
    this.host.clientChanged(this);
  }

  /** The owner for whom it acquires, with what tells its process from a later one of the same pid. */
  identify(owner: OwnerIdentity): OwnerIdentity {
    if (owner.startTime !== undefined || owner.isForeign === true || this.isOwnerItself) return owner;
    this.locate();
    if (this.isLocal === false) owner.isForeign = true;
    else if (this.isLocal === true) {
      const startTime = this.host.processes.startTime(owner.pid);
      if (startTime !== undefined) owner.startTime = startTime ?? NO_PROCESS;
    }
    return owner;
  }

  private locate(): void {
    if (this.isLocal !== undefined) return;
    this.isLocal = this.host.processes.isLocal(this.connection.peer.pid);
    if (this.isLocal !== undefined) this.host.clientChanged(this);
  }
}
