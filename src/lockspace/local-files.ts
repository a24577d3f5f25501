/** Which files are on file systems that answer by themselves, as /proc tells: no file system is asked. */
import { FileType, posix, type Stat } from '../posix/posix.ts';
import { descriptorInfo } from '../proc/locks.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';

/** By device number, as long as no mount changes: only then is a number given to another file system. */
const known = new Map<number, boolean>();

/**
 * Whether a file that is open is a regular one, of a file system that is the kernel's own affair. Not a device node: opening and closing
 * that asks the device. What cannot be found out is not.
 */
export function isLocalFile(fd: number, { device, type: fileType }: Stat): boolean {
  if (fileType !== FileType.REGULAR) return false;
  if (posix.mountsChanged()) known.clear();
  const before = known.get(device);
  if (before !== undefined) return before;
  const type = typeOf(fd);
  if (type !== undefined) known.set(device, isLocalType(type));
  return isLocalType(type);
}

/** Undefined when it cannot be found out. */
function typeOf(fd: number): string | undefined {
  try {
    return new Mounts().typeOf(descriptorInfo('self', fd).mount);
  } catch {
    return undefined;
  }
}
