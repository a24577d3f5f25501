import { readFileSync } from 'node:fs';
import { release } from 'node:os';

export function kernelIsAtLeast(wantedMajor: number, wantedMinor: number, kernel = release()): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

/** The id of the host's present boot; empty where it is not readable. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return '';
  }
}
