/** What the kernel grants this process. */
import { readFileSync } from 'node:fs';

/** RLIMIT_NOFILE's soft limit, which Node.js raises to the hard one when it starts. Infinity when it cannot be told. */
export function descriptorLimit(): number {
  try {
    const line = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
    const limit = Number(line?.[1]);
    return Number.isNaN(limit) ? Infinity : limit;
  } catch {
    return Infinity; // no /proc, as in a bare chroot
  }
}
