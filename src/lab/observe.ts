/**
 * A daemon seen from outside: the kernel's lock table and file trees. The product reads the table by src/proc; its tests read it
 * by this second parser, so that the two share no mistake.
 */
import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { splitDevice } from '../proc/locks.ts';
import { unlessGone } from '../proc/processes.ts';

/** A row of /proc/locks. */
export interface LockRow {
  /** POSIX, OFDLCK, FLOCK, … */
  readonly kind: string;
  /** READ or WRITE */
  readonly access: string;
  readonly pid: number;
  /** major:minor, in hex as the kernel prints them */
  readonly device: string;
  readonly inode: number;
  readonly start: number;
  /** Last byte, or 'EOF' */
  readonly end: number | 'EOF';
}

/** All locks that are held, in the kernel's order, without those that a process waits for. */
export function allLocks(): LockRow[] {
  return rowsIn(readFileSync('/proc/locks', 'latin1'));
}

function rowsIn(table: string): LockRow[] {
  const rows: LockRow[] = [];
  for (const line of table.split('\n')) {
    const fields = line.split(/\s+/);
    const [, kind, , access, pid, file, start, end] = fields;
    if (kind === undefined || kind === '->' || file === undefined || end === undefined) continue;
    const [major, minor, inode] = file.split(':');
    rows.push({
      kind,
      access: access ?? '',
      pid: Number(pid),
      device: `${major ?? ''}:${minor ?? ''}`,
      inode: Number(inode),
      start: Number(start),
      end: end === 'EOF' ? end : Number(end),
    });
  }
  return rows;
}

/** The OFD locks of a process's open files: the table has no pid of these. */
function openFileLocksOf(pid: number): LockRow[] {
  const directory = `/proc/${pid}/fdinfo`;
  const infos = unlessGone(() => readdirSync(directory)) ?? [];
  const rows = infos.flatMap((fd) => {
    const info = unlessGone(() => readFileSync(`${directory}/${fd}`, 'latin1')) ?? '';
    return rowsIn(info.replaceAll(/^lock:\t/gm, ''));
  });
  return rows.filter(({ kind }) => kind === 'OFDLCK').map((row) => ({ ...row, pid }));
}

/**
 * The POSIX and OFD locks of one process, sorted by device, inode and start. The kernel hands the table out a page at a time: while
 * other processes lock and unlock, rows come twice or are left out. So a row counts once, and the table is read until two
 * readings agree.
 */
export function locksOf(pid: number): LockRow[] {
  const read = (): Map<string, LockRow> => {
    const all = allLocks();
    const own = all.filter((row) => row.pid === pid && row.kind === 'POSIX');
    if (all.some(({ kind }) => kind === 'OFDLCK')) own.push(...openFileLocksOf(pid));
    return new Map(own.map((row) => [JSON.stringify(row), row]));
  };
  let rows = read();
  for (let readings = 0; readings < 20; readings++) {
    const again = read();
    const agree = again.size === rows.size && [...again.keys()].every((key) => rows.has(key));
    rows = again;
    if (agree) break;
  }
  return [...rows.values()].sort((a, b) => a.device.localeCompare(b.device) || a.inode - b.inode || a.start - b.start);
}

/** The lock of a process on the file at a path, as 'READ 0 0' (access, first and last byte); undefined for none. */
export function lockOn(pid: number, path: string): string | undefined {
  const { ino } = lstatSync(path);
  const row = locksOf(pid).find(({ inode }) => inode === ino);
  return row === undefined ? undefined : `${row.access} ${row.start} ${row.end}`;
}

/** As {@link lockOn}, of whichever process: a storage helper has those on storage that may hang. Not on file systems as in {@link isOnFile}. */
export function lockOfAny(path: string): string | undefined {
  const { dev, ino } = lstatSync(path);
  const { major, minor } = splitDevice(dev);
  // Other processes of the machine may have locked a file of this number on another file system.
  const number = [major, minor].map((part) => part.toString(16).padStart(2, '0')).join(':');
  const row = allLocks().find(({ device, inode }) => device === number && inode === ino);
  return row === undefined ? undefined : `${row.access} ${row.start} ${row.end}`;
}

/**
 * A file tree as lines, sorted: mode and type, owner, size (of files), path relative to `root`, target of links. Names are
 * bytes, one character each (latin1).
 * No file is opened, because its close would drop the locks of a daemon in this process.
 */
export function snapshot(root: string): string[] {
  const kinds: readonly [string, (s: ReturnType<typeof lstatSync>) => boolean | undefined][] = [
    ['directory', (s) => s?.isDirectory()],
    ['link', (s) => s?.isSymbolicLink()],
    ['socket', (s) => s?.isSocket()],
    ['fifo', (s) => s?.isFIFO()],
    ['device', (s) => s?.isBlockDevice() === true || s?.isCharacterDevice()],
  ];
  const lines: string[] = [];
  const visit = (relative: string): void => {
    const path = Buffer.concat([Buffer.from(root), Buffer.from(`/${relative}`, 'latin1')]);
    const stat = lstatSync(path);
    const kind = kinds.find(([, is]) => is(stat))?.[0] ?? 'file';
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
    const size = kind === 'file' ? ` ${stat.size} bytes` : '';
    const target = kind === 'link' ? ` -> ${readlinkSync(path, 'latin1')}` : '';
    lines.push(`${mode} ${kind} ${stat.uid}:${stat.gid}${size} ${relative}${target}`);
    if (kind === 'directory') for (const name of readdirSync(path, 'latin1').sort()) visit(join(relative, name));
  };
  visit('.');
  return lines;
}
