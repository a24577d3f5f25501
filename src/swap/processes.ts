/** Which lock daemons run on this host, seen through /proc alone. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';

/** Where libvirt expects the lock daemon's program, and where ours is diverted to. */
export const PROGRAM = '/usr/sbin/virtlockd';

export interface LockDaemon {
  readonly pid: number;
  /** 'own': a program of this package; 'c': libvirt's. */
  readonly kind: 'own' | 'c';
  readonly uid: number;
  /** The path by which it was started: what it executes again. */
  readonly argv0: string;
}

/** Value of a line of /proc/PID/status, or undefined. */
export function status(pid: number, field: string): string | undefined {
  const line = new RegExp(`^${field}:\\s*(.*)$`, 'm');
  return line.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
}

function commandLine(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').slice(0, -1);
}

/** The program a process runs, without what the kernel says about its having been replaced; undefined when it is gone. */
export function programOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '');
  } catch {
    return undefined;
  }
}

/** Tells this image of a process from the next: the kernel gives every exec another random address here. Undefined: it has ended. */
export function image(pid: number): string | undefined {
  try {
    // A zombie's is empty.
    return readFileSync(`/proc/${pid}/auxv`, 'latin1') || undefined;
  } catch {
    return undefined;
  }
}

/** When the process was started, in ticks since boot: with the pid, its identity. Exec does not change it. */
export function startTime(pid: number): string {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

/** Whether two paths name one file. */
export function sameFile(one: string, other: string): boolean {
  try {
    const [a, b] = [statSync(one), statSync(other)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}

/** Whether a process lives below our root directory: not in a container, whose files are others under the same names. */
function sharesOurRoot(pid: number): boolean {
  return sameFile(`/proc/${pid}/root/usr`, '/usr');
}

function identify(pid: number, installRoot: string): LockDaemon | undefined {
  const program = programOf(pid);
  if (program === undefined) return undefined;
  const args = commandLine(pid);
  const uid = Number(status(pid, 'Uid')?.split('\t')[1]);
  // A program that dpkg has replaced is known by its old name, with or without a suffix of dpkg's.
  if (program.startsWith(PROGRAM) && path.dirname(program) === path.dirname(PROGRAM)) {
    return { pid, kind: 'c', uid, argv0: args[0] ?? '' };
  }
  if (!program.startsWith(path.join(installRoot, 'bin/node'))) return undefined;
  const script = args.findIndex((word) => word.endsWith('/dist/start.cjs'));
  const argv0 = args[script + 1];
  // A child that checks a state document, or prints a version, is no daemon.
  if (script < 0 || argv0 === undefined || args.some((word) => word.startsWith('--check-state'))) return undefined;
  return { pid, kind: 'own', uid, argv0 };
}

/** All lock daemons below our root directory, whoever's they are. */
export function findDaemons(installRoot: string): LockDaemon[] {
  const found: LockDaemon[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    try {
      const daemon = identify(pid, installRoot);
      if (daemon !== undefined && sharesOurRoot(pid)) found.push(daemon);
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/**
 * The POSIX locks of a process, as rows `access device:inode start end`, sorted. A row counts once: while others lock and
 * unlock, the kernel's table shows rows twice or not at all, so it is read until two readings agree.
 */
export function locksOf(pid: number): string[] {
  const read = (): string[] => {
    const rows = new Set<string>();
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      const [, kind, , access, owner, file, start, end] = line.split(/\s+/);
      if (kind === 'POSIX' && Number(owner) === pid) rows.add([access, file, start, end].join(' '));
    }
    return [...rows].sort();
  };
  let rows = read();
  for (let readings = 0; readings < 20; readings++) {
    const again = read();
    const agree = again.join() === rows.join();
    rows = again;
    if (agree) break;
  }
  return rows;
}

/** Those that are leases: all but the one on its pid file, which a program that has just been executed may be about to take. */
export function leasesOf(pid: number, pidFile: string): string[] {
  const rows = locksOf(pid);
  const inode = statSync(pidFile, { throwIfNoEntry: false })?.ino;
  return inode === undefined ? rows : rows.filter((row) => row.split(' ')[1]?.endsWith(`:${inode}`) !== true);
}

/** Where a process listens: path of the UNIX socket whose name ends so, by its descriptors; undefined when there is none. */
export function listensAt(pid: number, ending: string): string | undefined {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // Closed meanwhile.
    }
  }
  for (const line of readFileSync(`/proc/${pid}/net/unix`, 'latin1').split('\n')) {
    const [, , , flags, , , inode, file] = line.trim().split(/\s+/);
    // 00010000 is a listening socket; connections accepted from it carry its path, too.
    if (inode !== undefined && inodes.has(inode) && flags === '00010000' && file?.endsWith(ending) === true)
      return file;
  }
  return undefined;
}

/**
 * When the present image of a C daemon began, in seconds since 1970: it writes its pid file anew at every exec.
 * 0 when it has none.
 */
export function imageStart(pid: number): number {
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      if (!readlinkSync(`/proc/${pid}/fd/${fd}`).endsWith('.pid')) continue;
      return Math.floor(statSync(`/proc/${pid}/fd/${fd}`).mtimeMs / 1000);
    } catch {
      // Closed meanwhile.
    }
  }
  return 0;
}
