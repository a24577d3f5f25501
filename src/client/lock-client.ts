/** The lock program, call by call. */
import { AcquireFlag, lockProgram } from '../../xdr/programs/lock.ts';
import { type CallOptions, Client } from './client.ts';
import type { ConnectionLost } from './errors.ts';
import { type Name, nameBytes, type OwnerDetails, ownerOf } from './values.ts';

/** The lock socket of the system's daemon. A session daemon has `$XDG_RUNTIME_DIR/libvirt/virtlockd-sock`. */
export const LOCK_SOCKET = '/run/libvirt/virtlockd-sock';

/** The lockspace whose resources are files, named by their paths. */
export const DEFAULT_LOCKSPACE = '';

/** How a resource is acquired. */
export interface AcquireOptions extends CallOptions {
  /** Share the lock with others that ask for a shared one. Default: an exclusive lock. */
  readonly shared?: boolean | undefined;
  /** Create the resource's file if it is missing, and unlink it after the last hold. */
  readonly autocreate?: boolean | undefined;
}

/**
 * A connection to the lock daemon, on behalf of one owner.
 *
 * Methods resolve when the daemon has answered. They reject with {@link RemoteFailure} when the daemon refuses, with
 * {@link ConnectionLost}, {@link CallTimeout}, {@link ProtocolError} or the reason of the signal, and with TypeError or
 * RangeError for arguments that cannot be sent. Calls may overlap: the daemon serves them in order.
 *
 * The client does not reconnect. If this process is the registered owner, the end of the connection releases the owner's locks,
 * and the daemon kills it. If the owner is another process, its locks stay, and a new connection can register it again.
 */
export class LockClient {
  private readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  /** Connects to the daemon's lock socket. `timeout` is also the default of each call. */
  static async connect(socket: string = LOCK_SOCKET, options: CallOptions = {}): Promise<LockClient> {
    return new LockClient(await Client.connect(socket, options));
  }

  /** Whether calls can still be made. */
  get isOpen(): boolean {
    return this.client.isOpen;
  }

  /** Calls `handler` once when either side has closed the connection; at once if that has happened. */
  onClose(handler: (error: ConnectionLost) => void): void {
    this.client.onClose(handler);
  }

  /** Closes the connection; calls under way reject. */
  close(): void {
    this.client.close();
  }

  /**
   * Names the owner for all further calls. All but {@link createLockspace} need one. If the owner is this process, the end of
   * the connection releases its locks, and the daemon kills it if it had any.
   */
  async register(owner: OwnerDetails, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'register', { owner: ownerOf(owner), flags: 0 }, options);
  }

  /** Has the daemon refuse every further call on this connection, as on that of a QEMU. */
  async restrict(options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'restrict', { flags: 0 }, options);
  }

  /** Creates a lockspace, and its directory if that is missing. An existing lockspace is an error. */
  async newLockspace(directory: Name, options?: CallOptions): Promise<void> {
    const path = nameBytes(directory, 'the directory');
    await this.client.call(lockProgram, 'newLockspace', { path, flags: 0 }, options);
  }

  /** As {@link newLockspace}, but an existing lockspace is no error (except with libvirt 7.0.0). */
  async createLockspace(directory: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'createLockspace', { path: nameBytes(directory, 'the directory') }, options);
  }

  /** Creates the empty file of a resource. An existing file stays as it is; a held resource is an error. */
  async createResource(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'createResource', resource(lockspace, name), options);
  }

  /** Unlinks a resource's file. A missing file is no error; a held resource is. */
  async deleteResource(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'deleteResource', resource(lockspace, name), options);
  }

  /** Locks a resource for the registered owner. Rejects at once with code RESOURCE_BUSY if another owner excludes that. */
  async acquire(lockspace: Name, name: Name, options: AcquireOptions = {}): Promise<void> {
    const { shared = false, autocreate = false, ...limits } = options;
    const flags = (shared ? AcquireFlag.SHARED : 0) | (autocreate ? AcquireFlag.AUTOCREATE : 0);
    await this.client.call(lockProgram, 'acquireResource', resource(lockspace, name, flags), limits);
  }

  /** Releases one hold of the registered owner on a resource. */
  async release(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'releaseResource', resource(lockspace, name), options);
  }
}

function resource(lockspace: Name, name: Name, flags = 0): { path: string; name: string; flags: number } {
  return { path: nameBytes(lockspace, 'the lockspace'), name: nameBytes(name, 'the resource'), flags };
}
