/** The files that storage helpers have open in place of the daemon, as the kernel has them. No file system is asked. */
import type { LockInfo, StorageInfo } from '../../../../xdr/programs/inquire.ts';
import { type OpenDescriptor, openDescriptors } from '../../../proc/descriptors.ts';
import {
  coversFirstByte,
  type DescriptorInfo,
  descriptorInfo,
  isOnDevice,
  isOnFile,
  isRecordLock,
  type KernelLock,
} from '../../../proc/locks.ts';
import { type Mount, mountsOf } from '../../../proc/mounts.ts';
import { isStorageHelper, unlessGone } from '../../../proc/processes.ts';

interface OpenFile extends DescriptorInfo, OpenDescriptor {
  /** Undefined where it is not mounted any more. */
  readonly on: Mount | undefined;
}

export class HelperFiles {
  /** All files of every helper were read: what is not found is not there. */
  readonly isComplete: boolean;
  private readonly byInode = new Map<bigint, OpenFile[]>();

  /** @param helpers as the daemon names them */
  constructor(helpers: readonly Pick<StorageInfo, 'pid'>[]) {
    let isComplete = true;
    for (const { pid } of helpers) {
      try {
        if (!isStorageHelper(pid)) throw new Error('another process has that pid');
        this.read(pid);
      } catch {
        isComplete = false;
      }
    }
    this.isComplete = isComplete;
  }

  private read(pid: number): void {
    const mounts = mountsOf(pid);
    for (const fd of openDescriptors(pid)) {
      const info = unlessGone(() => descriptorInfo(pid, fd));
      // Before Linux 5.14 the locks alone name the inode.
      const inode = info?.inode ?? info?.locks[0]?.inode;
      if (info === undefined || inode === undefined) continue;
      const file = { ...info, pid, fd, on: mounts.get(info.mount) };
      const others = this.byInode.get(inode);
      if (others === undefined) this.byInode.set(inode, [file]);
      else others.push(file);
    }
  }

  /** Whether the kernel has the lock. */
  has(lock: LockInfo, access: KernelLock['access']): boolean {
    return this.of(lock).some(({ locks }) =>
      locks.some((row) => isRecordLock(row) && coversFirstByte(row) && isOnFile(row, lock) && row.access === access),
    );
  }

  /** A helper's descriptor of the file. */
  find(lock: LockInfo): OpenDescriptor | undefined {
    return this.of(lock).find(({ on }) => on !== undefined && isOnDevice(on, lock.device));
  }

  /** The type of the file system of a file that a helper has open. */
  typeOf(lock: LockInfo): string | undefined {
    return this.of(lock).find(({ on }) => on !== undefined)?.on?.type;
  }

  private of({ inode }: LockInfo): readonly OpenFile[] {
    return this.byInode.get(inode) ?? [];
  }
}
