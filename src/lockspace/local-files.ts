/** Which files are on file systems that cannot hang. Reads /proc alone, and makes no call that reaches a file system. */
import { FileType, type Stat } from '../posix/posix.ts';
import { descriptorInfo } from '../proc/locks.ts';
import { mountChanges } from '../proc/mount-changes.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';

/** By device number. Cleared when a mount changes, because the kernel may then reuse a number for another file system. */
const known = new Map<number, boolean>();
/** {@link mountChanges} when it was last right. */
let seenChanges = 0;

/**
 * Whether an open file is a regular one on a local file system. Not a device node: its open and close may reach the device. False
 * also when the type of the file system is unknown.
 */
export function isLocalFile(fd: number, { device, type: fileType }: Stat): boolean {
  if (fileType !== FileType.REGULAR) return false;
  const changes = mountChanges();
  if (changes !== seenChanges) known.clear();
  seenChanges = changes;
  const before = known.get(device);
  if (before !== undefined) return before;
  const type = typeOf(fd);
  if (type !== undefined) known.set(device, isLocalType(type));
  return isLocalType(type);
}

/** Type of the file system; undefined where /proc does not report it. */
function typeOf(fd: number): string | undefined {
  try {
    return new Mounts().typeOf(descriptorInfo('self', fd).mount);
  } catch {
    return undefined;
  }
}
