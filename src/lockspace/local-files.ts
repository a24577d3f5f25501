/** Which files are on file systems that answer by themselves, as /proc tells: no file system is asked. */
import { FileType, type Stat } from '../posix/posix.ts';
import { descriptorInfo } from '../proc/locks.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import { isHeldDevice } from './files.ts';

/** By device number, of devices with a held file: a number is given to no other file system as long as a file is open on it. */
const known = new Map<number, boolean>();

/**
 * Whether a file that is open is a regular one, of a file system that is the kernel's own affair. Not a device node: opening and closing
 * that asks the device. What cannot be found out is not.
 */
export function isLocalFile(fd: number, { device, mode }: Stat): boolean {
  if ((mode & FileType.MASK) !== FileType.REGULAR) return false;
  const before = isHeldDevice(device) ? known.get(device) : undefined;
  if (before !== undefined) return before;
  const type = typeOf(fd);
  if (type === undefined) known.delete(device);
  else known.set(device, isLocalType(type));
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
