import { readdirSync, readFileSync } from 'node:fs';

/** The pids of the processes whose arguments begin with these, each with a zero behind it. */
export function processesNamed(start: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(start);
      } catch {
        return false;
      }
    });
}

/** The pids of the helpers for the file system that is mounted there. */
export function storageHelpers(mount: string): number[] {
  return processesNamed(`virtlockd-storage\0${mount}\0`);
}
