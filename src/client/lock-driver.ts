/**
 * Locks a guest's disks and leases as libvirt's lock driver `lockd` does: the same resources in the same lockspaces, on the same
 * connections, byte for byte.
 */
import { createHash } from 'node:crypto';
import { ErrorCode } from '../../xdr/error.ts';
import type { CallOptions } from './client.ts';
import { RemoteFailure } from './errors.ts';
import { DEFAULT_LOCKSPACE, LOCK_SOCKET, LockClient } from './lock-client.ts';
import { type Name, nameBytes, type OwnerDetails, ownerOf } from './values.ts';

/** The settings of qemu-lockd.conf, and the daemon's socket. */
export interface LockDriverOptions {
  /** Default: {@link LOCK_SOCKET}. */
  readonly socket?: string | undefined;
  /** Lock every disk that needs it (`auto_disk_leases`). Default: true. */
  readonly autoDiskLeases?: boolean | undefined;
  /**
   * Refuse an owner with writable disks and no lease (`require_lease_for_disks`). Default: true. Without effect if
   * `autoDiskLeases` is true.
   */
  readonly requireLeaseForDisks?: boolean | undefined;
  /**
   * An indirect lockspace, which hosts can share: lock files in this directory, named by the SHA-256 of the disks' paths
   * (`file_lockspace_dir`), and not the disks' own files.
   */
  readonly fileLockspace?: Name | undefined;
  /** Likewise for LVM volumes, named by their UUIDs (`lvm_lockspace_dir`); see {@link DiskOptions.lvmUuid}. */
  readonly lvmLockspace?: Name | undefined;
  /** Likewise for SCSI volumes, named by their serials (`scsi_lockspace_dir`); see {@link DiskOptions.scsiSerial}. */
  readonly scsiLockspace?: Name | undefined;
}

/** How a guest uses a disk, and the ids of its volume. */
export interface DiskOptions {
  /** `<shareable/>`: a shared lock. */
  readonly shared?: boolean | undefined;
  /** `<readonly/>`: no lock. */
  readonly readonly?: boolean | undefined;
  /** The volume's LVM UUID, used if there is a lockspace for LVM volumes. */
  readonly lvmUuid?: Name | undefined;
  /** The volume's SCSI serial, used if there is a lockspace for SCSI volumes. */
  readonly scsiSerial?: Name | undefined;
}

/** A `<lease>` of a guest. */
export interface LeaseDetails {
  /** The lockspace's directory: `target path` and `lockspace` of libvirt's XML, joined by a slash. */
  readonly directory: Name;
  readonly key: Name;
}

/** The owner has a disk for exclusive writing and no lease, but the driver requires one. */
export class LeaseRequired extends Error {
  override name = 'LeaseRequired';

  constructor() {
    super('Read/write, exclusive access, disks were present, but no leases specified');
  }
}

interface Resource {
  readonly lockspace: Name;
  readonly name: Name;
  readonly shared: boolean;
  readonly autocreate: boolean;
}

/** The driver with its settings. It makes a {@link LockManager} for each guest. */
export class LockDriver {
  readonly socket: string;
  private readonly options: LockDriverOptions;

  private constructor(options: LockDriverOptions) {
    this.socket = options.socket ?? LOCK_SOCKET;
    this.options = options;
  }

  /** Creates the indirect lockspaces in the daemon, as libvirtd does when it starts. Sends nothing if there are none. */
  static async open(options: LockDriverOptions = {}, limits: CallOptions = {}): Promise<LockDriver> {
    const driver = new LockDriver(options);
    if (options.autoDiskLeases !== false) {
      for (const directory of [options.fileLockspace, options.lvmLockspace, options.scsiLockspace]) {
        if (directory !== undefined) await driver.createLockspace(directory, limits);
      }
    }
    return driver;
  }

  /** @throws TypeError or RangeError when the owner's details cannot be sent */
  manager(owner: OwnerDetails): LockManager {
    ownerOf(owner);
    return new LockManager(this.socket, this.options, owner);
  }

  private async createLockspace(directory: Name, limits: CallOptions): Promise<void> {
    const client = await LockClient.connect(this.socket, limits);
    try {
      await client.createLockspace(directory, limits);
    } catch (error) {
      // To libvirt 7.0.0 an existing lockspace is an error.
      if (!(error instanceof RemoteFailure && error.code === ErrorCode.OPERATION_INVALID)) throw error;
    } finally {
      client.close();
    }
  }
}

/**
 * One guest's locks. {@link addLease} and {@link addDisk} collect resources; {@link acquire} and {@link release} act on all of
 * them in that order, each on a connection of its own. libvirt adds leases before disks.
 */
export class LockManager {
  private readonly socket: string;
  private readonly options: LockDriverOptions;
  private readonly owner: OwnerDetails;
  private readonly resources: Resource[] = [];
  private hasWritableDisk = false;
  private hasLease = false;

  /** @internal */
  constructor(socket: string, options: LockDriverOptions, owner: OwnerDetails) {
    this.socket = socket;
    this.options = options;
    this.owner = owner;
  }

  /** Adds a lease. Before {@link acquire}, its lockspace must exist in the daemon, and its file must exist. */
  addLease({ directory, key }: LeaseDetails): void {
    nameBytes(directory, 'the directory');
    nameBytes(key, 'the key');
    this.hasLease = true;
    this.resources.push({ lockspace: directory, name: key, shared: false, autocreate: false });
  }

  /** Adds a disk by the path of its file or device. */
  addDisk(path: Name, { shared = false, readonly = false, lvmUuid, scsiSerial }: DiskOptions = {}): void {
    nameBytes(path, 'the path');
    const { autoDiskLeases = true, fileLockspace, lvmLockspace, scsiLockspace } = this.options;
    if (readonly) return;
    if (!autoDiskLeases) {
      if (!shared) this.hasWritableDisk = true;
      return;
    }
    const indirect = (lockspace: Name, name: Name): void => {
      this.resources.push({ lockspace, name, shared, autocreate: true });
    };
    if (lvmLockspace !== undefined && lvmUuid !== undefined) indirect(lvmLockspace, lvmUuid);
    else if (scsiLockspace !== undefined && scsiSerial !== undefined) indirect(scsiLockspace, scsiSerial);
    else if (fileLockspace !== undefined) indirect(fileLockspace, diskResourceName(path));
    else this.resources.push({ lockspace: DEFAULT_LOCKSPACE, name: path, shared, autocreate: false });
  }

  /**
   * Registers the owner, and returns the open connection. A guest's own process does that, with `restrict`, before it becomes
   * QEMU. If the owner is this process, the end of this connection releases its locks, and the daemon kills it if it had any.
   * @throws LeaseRequired
   */
  async register(options: CallOptions & { readonly restrict?: boolean | undefined } = {}): Promise<LockClient> {
    this.assertLease();
    const client = await LockClient.connect(this.socket, options);
    try {
      await client.register(this.owner, options);
      if (options.restrict === true) await client.restrict(options);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /**
   * Acquires all resources. Rejects with {@link RemoteFailure} at the first that is refused. As with libvirt, which ends the
   * guest then, the resources acquired before stay acquired until {@link release} or the owner's end.
   * @throws LeaseRequired
   */
  async acquire(options: CallOptions = {}): Promise<void> {
    await this.within(options, async (client) => {
      for (const { lockspace, name, shared, autocreate } of this.resources) {
        await client.acquire(lockspace, name, { ...options, shared, autocreate });
      }
    });
  }

  /** Releases all resources. As with libvirt, rejects at the first that is not held; the following ones stay held. */
  async release(options: CallOptions = {}): Promise<void> {
    await this.within(options, async (client) => {
      for (const { lockspace, name } of this.resources) await client.release(lockspace, name, options);
    });
  }

  /**
   * The state that other lock drivers of libvirt carry from host to host when a guest migrates. This driver has none.
   */
  inquire(): undefined {
    return undefined;
  }

  private assertLease(): void {
    const { requireLeaseForDisks = true } = this.options;
    if (requireLeaseForDisks && this.hasWritableDisk && !this.hasLease) throw new LeaseRequired();
  }

  /** Runs `work` on a registered connection, and closes that. */
  private async within(options: CallOptions, work: (client: LockClient) => Promise<void>): Promise<void> {
    const client = await this.register({ timeout: options.timeout, signal: options.signal });
    try {
      await work(client);
    } finally {
      client.close();
    }
  }
}

/** The name of a disk's lock file in an indirect lockspace: the SHA-256 of its path, in hex. */
export function diskResourceName(path: Name): string {
  return createHash('sha256').update(path).digest('hex');
}
