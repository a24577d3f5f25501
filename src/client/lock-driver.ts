/**
 * What libvirt's own lock driver `lockd` makes of a guest's disks and leases: which resources, in which lockspaces, on which
 * connections. It sends what libvirtd sends, byte for byte.
 */
import { createHash } from 'node:crypto';
import { ErrorCode } from '../../xdr/error.ts';
import type { CallOptions } from './client.ts';
import { RemoteFailure } from './errors.ts';
import { DEFAULT_LOCKSPACE, LOCK_SOCKET, LockClient } from './lock-client.ts';
import { type Name, nameBytes, type OwnerDetails, ownerOf } from './values.ts';

/** The settings of qemu-lockd.conf, and where the daemon is. */
export interface LockDriverOptions {
  /** Default: {@link LOCK_SOCKET}. */
  readonly socket?: string | undefined;
  /** Disks are locked without being asked for (`auto_disk_leases`). Default: true. */
  readonly autoDiskLeases?: boolean | undefined;
  /**
   * Without automatic leases: refuse an owner with writable disks and no lease (`require_lease_for_disks`). Default: true. It
   * means nothing with them.
   */
  readonly requireLeaseForDisks?: boolean | undefined;
  /**
   * Lock not the disks' files but files in this directory, named by the SHA-256 of the disks' paths (`file_lockspace_dir`):
   * an indirect lockspace, which hosts can share.
   */
  readonly fileLockspace?: Name | undefined;
  /** Likewise for LVM volumes, named by their UUIDs (`lvm_lockspace_dir`); see {@link DiskOptions.lvmUuid}. */
  readonly lvmLockspace?: Name | undefined;
  /** Likewise for SCSI volumes, named by their serials (`scsi_lockspace_dir`); see {@link DiskOptions.scsiSerial}. */
  readonly scsiLockspace?: Name | undefined;
}

/** How a guest uses a disk, and how its volume is known. */
export interface DiskOptions {
  /** `<shareable/>`: others may have it, too. */
  readonly shared?: boolean | undefined;
  /** `<readonly/>`: nothing is locked. */
  readonly readonly?: boolean | undefined;
  /** The volume's LVM UUID, which counts where there is a lockspace for LVM volumes. */
  readonly lvmUuid?: Name | undefined;
  /** The volume's SCSI serial, which counts where there is a lockspace for SCSI volumes. */
  readonly scsiSerial?: Name | undefined;
}

/** A `<lease>` of a guest. */
export interface LeaseDetails {
  /** The lockspace's directory: of libvirt's XML, `target path` and `lockspace` with a slash between them. */
  readonly directory: Name;
  /** The resource in it. */
  readonly key: Name;
}

/** The owner has disks that it writes to alone, and no lease, where the driver wants one. */
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

/** The driver: its settings, from which every guest's {@link LockManager} is made. */
export class LockDriver {
  /** Where the daemon listens. */
  readonly socket: string;
  private readonly options: LockDriverOptions;

  private constructor(options: LockDriverOptions) {
    this.socket = options.socket ?? LOCK_SOCKET;
    this.options = options;
  }

  /** Makes the indirect lockspaces known to the daemon, as libvirtd does when it starts; without any, nothing is sent. */
  static async open(options: LockDriverOptions = {}, limits: CallOptions = {}): Promise<LockDriver> {
    const driver = new LockDriver(options);
    if (options.autoDiskLeases !== false) {
      for (const directory of [options.fileLockspace, options.lvmLockspace, options.scsiLockspace]) {
        if (directory !== undefined) await driver.createLockspace(directory, limits);
      }
    }
    return driver;
  }

  /** The view of one guest. @throws TypeError or RangeError when its details cannot be sent */
  manager(owner: OwnerDetails): LockManager {
    ownerOf(owner);
    return new LockManager(this.socket, this.options, owner);
  }

  private async createLockspace(directory: Name, limits: CallOptions): Promise<void> {
    const client = await LockClient.connect(this.socket, limits);
    try {
      await client.createLockspace(directory, limits);
    } catch (error) {
      // To libvirt 7.0.0 a lockspace that is known already is an error.
      if (!(error instanceof RemoteFailure && error.code === ErrorCode.OPERATION_INVALID)) throw error;
    } finally {
      client.close();
    }
  }
}

/**
 * One guest's locks. {@link addLease} and {@link addDisk} collect; {@link acquire} and {@link release} act on all that was
 * collected, in that order, each over a connection of its own. libvirt adds leases before disks.
 */
export class LockManager {
  private readonly socket: string;
  private readonly options: LockDriverOptions;
  private readonly owner: OwnerDetails;
  private readonly resources: Resource[] = [];
  /** A disk that wants a lease, and whether there is a lease. */
  private hasWritableDisk = false;
  private hasLease = false;

  /** @internal */
  constructor(socket: string, options: LockDriverOptions, owner: OwnerDetails) {
    this.socket = socket;
    this.options = options;
    this.owner = owner;
  }

  /** Adds a lease. Its lockspace must be known to the daemon, and its file must be there, when it is acquired. */
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
   * Registers the owner and no more, on a connection that is returned open: what the guest's own process does, with
   * `restrict`, before it becomes QEMU. As long as it is open and the owner's pid is this process, the daemon guards the
   * owner: when it ends, all locks are released, and the process is killed if there were any.
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
   * Acquires everything. At the first that cannot be had it rejects, with {@link RemoteFailure}; what was acquired before it
   * stays acquired until {@link release} or the owner's end, as with libvirt, which ends the guest then.
   * @throws LeaseRequired
   */
  async acquire(options: CallOptions = {}): Promise<void> {
    await this.within(options, async (client) => {
      for (const { lockspace, name, shared, autocreate } of this.resources) {
        await client.acquire(lockspace, name, { ...options, shared, autocreate });
      }
    });
  }

  /** Releases everything. At the first that is not held it rejects, and what comes behind it stays, as with libvirt. */
  async release(options: CallOptions = {}): Promise<void> {
    await this.within(options, async (client) => {
      for (const { lockspace, name } of this.resources) await client.release(lockspace, name, options);
    });
  }

  /**
   * The state of the leases, which other drivers of libvirt carry from host to host when a guest migrates. This one has
   * none: nothing is asked, and there is nothing to tell.
   */
  inquire(): undefined {
    return undefined;
  }

  private assertLease(): void {
    const { requireLeaseForDisks = true } = this.options;
    if (requireLeaseForDisks && this.hasWritableDisk && !this.hasLease) throw new LeaseRequired();
  }

  /** Registers on a connection, works with it, and closes it. */
  private async within(options: CallOptions, work: (client: LockClient) => Promise<void>): Promise<void> {
    const client = await this.register({ timeout: options.timeout, signal: options.signal });
    try {
      await work(client);
    } finally {
      client.close();
    }
  }
}

/** What a disk's lock file is called in an indirect lockspace: the SHA-256 of its path, in hex. */
export function diskResourceName(path: Name): string {
  return createHash('sha256').update(path).digest('hex');
}
