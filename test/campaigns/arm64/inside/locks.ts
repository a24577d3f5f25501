/** The record locks of a process, by its descriptors. */
import { readdirSync, readFileSync } from 'node:fs';
import { unlessGone } from '../../../../src/proc/processes.ts';

/** The devices and inodes of files that a process has locked, of either kind of lock, sorted. */
export function lockedInodesOf(pid: number): string[] {
  const found = new Set<string>();
  for (const name of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = unlessGone(() => readFileSync(`/proc/${pid}/fdinfo/${name}`, 'latin1')) ?? '';
    for (const line of text.split('\n')) {
      const [word, , kind, , , , file = ''] = line.split(/\s+/);
      if (word === 'lock:' && (kind === 'POSIX' || kind === 'OFDLCK')) found.add(file);
    }
  }
  return [...found].sort();
}
