/** Changes of the mounts of this process's namespace. */
import { posix } from '../posix/posix.ts';

let changes = 0;

/**
 * A number that is another one after each change of mounts. A system call reports these, and no event: whoever mounts and then has
 * something locked may be served in the same turn of the event loop in which an event would come.
 */
export function mountChanges(): number {
  if (posix.mountsChanged()) changes++;
  return changes;
}
