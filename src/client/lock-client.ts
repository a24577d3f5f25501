/** The lock program, call by call. */
import { AcquireFlag, lockProgram } from '../../xdr/programs/lock.ts';
import { type CallOptions, Client } from './client.ts';
import type { ConnectionLost } from './errors.ts';
import { type Name, nameBytes, type OwnerDetails, ownerOf } from './values.ts';

/** Where the system's daemon listens. A session daemon: `$XDG_RUNTIME_DIR/libvirt/virtlockd-sock`. */
export const LOCK_SOCKET = '/run/libvirt/virtlockd-sock';

/** The lockspace in which resources are files, named by their paths. */
export const DEFAULT_LOCKSPACE = '';

/** How a resource is acquired. */
export interface AcquireOptions extends CallOptions {
  /** Together with others who ask for the same. Default: alone. */
  readonly shared?: boolean | undefined;
  /** Make the resource's file if it is missing, and remove it behind the last hold. */
  readonly autocreate?: boolean | undefined;
}

/**
 * A connection to the lock daemon on which one owner's locks are asked for.
 *
 * Every method resolves when the daemon has done it. Methods reject with {@link RemoteFailure} when the daemon refuses,
 * {@link ConnectionLost}, {@link CallTimeout}, {@link ProtocolError}, or the reason of the signal; and with TypeError or
 * RangeError, before anything is sent, for what cannot be sent. Calls may overlap: they are done in order.
 *
 * A connection that ends is not made again: what its end meant depends on whose it was. Was this process the registered
 * owner, the daemon has released all its locks and is about to kill it; was it another, all locks are as they were, and a
 * new connection that registers the same owner goes on with them.
 */
export class LockClient {
  private readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  /** Connects to the daemon's lock socket. `timeout` holds for calls as well. */
  static async connect(socket: string = LOCK_SOCKET, options: CallOptions = {}): Promise<LockClient> {
    return new LockClient(await Client.connect(socket, options));
  }

  /** Whether calls can still be made. */
  get isOpen(): boolean {
    return this.client.isOpen;
  }

  /** Calls `handler` once when the connection has ended, by whichever side; at once when it has already. */
  onClose(handler: (error: ConnectionLost) => void): void {
    this.client.onClose(handler);
  }

  /** Ends the connection; calls under way reject. */
  close(): void {
    this.client.close();
  }

  /**
   * Names the owner on whose behalf this connection calls from now on. All but {@link createLockspace} want it. If the owner's
   * pid is this process itself, the end of the connection releases all its locks, and the daemon kills it if it had any.
   */
  async register(owner: OwnerDetails, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'register', { owner: ownerOf(owner), flags: 0 }, options);
  }

  /** Has the daemon refuse every further call on this connection, as QEMU's own is. */
  async restrict(options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'restrict', { flags: 0 }, options);
  }

  /** Makes a lockspace known, and its directory if that is missing. A known one is an error. */
  async newLockspace(directory: Name, options?: CallOptions): Promise<void> {
    const path = nameBytes(directory, 'the directory');
    await this.client.call(lockProgram, 'newLockspace', { path, flags: 0 }, options);
  }

  /** As {@link newLockspace}, but content with a known one (libvirt 7.0.0 is not). */
  async createLockspace(directory: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'createLockspace', { path: nameBytes(directory, 'the directory') }, options);
  }

  /** Makes a resource's file, empty. One that is there is left as it is; a held resource is an error. */
  async createResource(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'createResource', resource(lockspace, name), options);
  }

  /** Removes a resource's file. One that is not there is no error; a held resource is. */
  async deleteResource(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'deleteResource', resource(lockspace, name), options);
  }

  /** Locks a resource for the registered owner. Rejects at once with code RESOURCE_BUSY when it cannot be had. */
  async acquire(lockspace: Name, name: Name, options: AcquireOptions = {}): Promise<void> {
    const { shared = false, autocreate = false, ...limits } = options;
    const flags = (shared ? AcquireFlag.SHARED : 0) | (autocreate ? AcquireFlag.AUTOCREATE : 0);
    await this.client.call(lockProgram, 'acquireResource', resource(lockspace, name, flags), limits);
  }

  /** Gives up one of the registered owner's holds on a resource. */
  async release(lockspace: Name, name: Name, options?: CallOptions): Promise<void> {
    await this.client.call(lockProgram, 'releaseResource', resource(lockspace, name), options);
  }
}

function resource(lockspace: Name, name: Name, flags = 0): { path: string; name: string; flags: number } {
  return { path: nameBytes(lockspace, 'the lockspace'), name: nameBytes(name, 'the resource'), flags };
}
