/** Which descriptors of a process are of a file, without asking a file system that may hang. */
import { statSync } from 'node:fs';
import { descriptorPath, type FileId, fileIdOf, openDescriptors } from './descriptors.ts';
import { descriptorInfo, isOnDevice, isOnFile } from './locks.ts';
import { type Mount, mountsOf, typeMayHang } from './mounts.ts';
import type { Process } from './processes.ts';

/**
 * A process's descriptors of a file. One that cannot be read, as its storage fails, counts as another file's. So does one on a file
 * system that may hang, before Linux 5.14 or once that is unmounted, unless it has a lock on record.
 *
 * @throws Error when the process is gone, or another user's
 */
export function descriptorsOn(pid: Process, file: FileId): number[] {
  return openDescriptors(pid).filter(descriptorTest(pid, file));
}

/** The test of {@link descriptorsOn}, for descriptors of the process. */
export function descriptorTest(pid: Process, file: FileId): (fd: number) => boolean {
  let mounts: ReadonlyMap<number, Mount> | undefined;
  return (fd) => {
    try {
      const { inode, locks, mount: id } = descriptorInfo(pid, fd);
      if (inode !== null && inode !== file.inode) return false;
      if (locks.some((row) => isOnFile(row, file))) return true;
      const mount = (mounts ??= mountsOf(pid)).get(id);
      if (mount === undefined) return false;
      if (typeMayHang(mount.type)) return inode !== null && isOnDevice(mount, file.device);
      const found = fileIdOf(statSync(descriptorPath(pid, fd), { bigint: true }));
      return found.inode === file.inode && found.device === file.device;
    } catch {
      return false;
    }
  };
}
