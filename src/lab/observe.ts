/**
 * What can be seen of a daemon from outside: the kernel's lock table and file trees. The table is not read by src/proc, which
 * the product trusts: this is the second opinion that its tests have.
 */
import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

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

/** All locks held (not those waited for), in the kernel's order. */
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

/** The OFD locks of a process's open files: of those the table tells no pid. */
function openFileLocksOf(pid: number): LockRow[] {
  const rows: LockRow[] = [];
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    try {
      const lines = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1').matchAll(/^lock:\t(.*)$/gm);
      rows.push(...rowsIn([...lines].map(([, line = '']) => line).join('\n')));
    } catch (error) {
      // Closed since.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return rows.filter(({ kind }) => kind === 'OFDLCK').map((row) => ({ ...row, pid }));
}

/**
 * The POSIX and OFD locks of one process, sorted by device, inode and start: what its lockspaces hold, and its pid file.
 * The kernel hands the table out a page at a time: while other processes lock and unlock, rows come twice or are left out.
 * So a row counts once, and the table is read until two readings agree.
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

/** The lock a process has on the file at a path, as 'READ 0 0' (access, first and last byte); undefined when none. */
export function lockOn(pid: number, path: string): string | undefined {
  const { ino } = lstatSync(path);
  const row = locksOf(pid).find(({ inode }) => inode === ino);
  return row === undefined ? undefined : `${row.access} ${row.start} ${row.end}`;
}

/**
 * A file tree as lines, sorted: mode and type, owner, size (of files), path relative to `root`, target of links. Names are
 * bytes, one character each (latin1).
 * No file is opened: a daemon's process could lose its lock by that.
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
