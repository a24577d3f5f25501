/** A client of the lock program: the owner that it registered, and whether it may still call. */
import type { ByteString } from '../../xdr/codec.ts';
import { isSameRegistration, NO_PROCESS, type OwnerIdentity } from '../lockspace/owner.ts';
import type { RemoteCalls } from '../lockspace/remote-calls.ts';
import type { Lockspaces } from '../lockspace/lockspaces.ts';
import type { Dialect } from '../libvirt/dialect.ts';
import type { Connection } from '../rpc/connection.ts';
import type { OwnerReaper } from './owner-reaper.ts';
import type { ProcessHost } from './process-host.ts';

/** The daemon as the lock program sees it. */
export interface LockHost {
  readonly lockspaces: Lockspaces;
  readonly dialect: Dialect;
  readonly processes: Pick<ProcessHost, 'reportsPeers' | 'isLocal' | 'startTime'>;
  readonly ownerReaper: Pick<OwnerReaper, 'follow'>;
  /** The calls of one connection for files on storage that may hang. */
  makeRemoteCalls(): RemoteCalls;
  /** A part of the client's state that outlives a restart has changed. */
  clientChanged(client: LockClient): void;
}

export class LockClient {
  readonly connection: Connection<LockClient>;
  readonly host: LockHost;
  readonly remote: RemoteCalls;
  /** The owner on whose behalf it calls; null until it registers one. */
  owner: OwnerIdentity | null = null;
  /** Every further call is refused. */
  restricted = false;
  /** The peer is in the daemon's pid namespace: only then the pids that it sends mean anything here. Undefined until read. */
  isLocal: boolean | undefined;
  /** When the peer started that is the owner itself, where the kernel does not say later which process it was. */
  peerStart: number | undefined;

  constructor(connection: Connection<LockClient>, host: LockHost) {
    this.connection = connection;
    this.host = host;
    this.remote = host.makeRemoteCalls();
    // The kernel reports 0 for a peer in another pid namespace that is not below the daemon's.
    if (connection.peer.pid === 0) this.isLocal = false;
  }

  /** Whether the peer is the owner itself, so that its end is the owner's, and not libvirtd on its behalf. */
  get isOwnerItself(): boolean {
    return this.owner !== null && this.owner.pid === this.connection.peer.pid && this.isLocal !== false;
  }

  /** When its peer started, if that is the owner itself and this was asked in time. */
  get ownStart(): number | undefined {
    return this.peerStart ?? this.connection.peer.startTime;
  }

  /** Empty before it registers. */
  get ownerName(): ByteString {
    return this.owner?.name ?? '';
  }

  /** @throws LimitError */
  register(owner: OwnerIdentity): void {
    const { owner: before, isLocal, peerStart } = this;
    this.host.lockspaces.budget.replaceName(this.ownerName, owner.name);
    this.owner = owner;
    const { pid, startTime } = this.connection.peer;
    const { processes } = this.host;
    // While the peer waits for the answer it exists; at the end of its connection it may be gone.
    if (owner.pid === pid) {
      this.isLocal ??= processes.isLocal(pid);
      if (!processes.reportsPeers) this.peerStart ??= startTime ?? processes.startTime(pid) ?? undefined;
    }
    const isSame = before !== null && isSameRegistration(before, owner);
    if (!isSame || this.isLocal !== isLocal || this.peerStart !== peerStart) this.host.clientChanged(this);
  }

  restrict(): void {
    this.restricted = true;
    this.host.clientChanged(this);
  }

  /** Adds to the registered owner what distinguishes its process from a later one with the same pid. */
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
