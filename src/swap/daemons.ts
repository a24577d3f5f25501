/**
 * Finds the lock daemons of this host in /proc. Any user can run a process by the name of a lock daemon, with its words and under its path,
 * which a mount namespace of the user's own shows. So only what a process cannot choose counts here: its users, and the program that one
 * of root executes. Of another user's process nothing is read, and no path of it resolved, that may make the reader wait: its words are in
 * its own memory, and its root directory may be a file system that never answers.
 */
import { existsSync, lstatSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { PROGRAM } from '../libvirt/paths.ts';
import { toPath } from '../posix/bytes.ts';
import { descriptorPath, fileIdOf, openedBy } from '../proc/descriptors.ts';
import { coversFirstByte, steadyLocksOf } from '../proc/locks.ts';
import {
  commandLineOf,
  environmentOf,
  groupOf,
  processes,
  programOf,
  sharesMounts,
  unlessGone,
  usersOf,
  workingDirectoryOf,
} from '../proc/processes.ts';
import { listensAt } from '../proc/sockets.ts';

/** Bytes of a pid and a line break, and more. */
const MAX_PID_FILE = 32;

/** 'own': a program of this package. */
export type Kind = 'own' | 'libvirt';

export interface LockDaemon {
  readonly pid: number;
  readonly kind: Kind;
  readonly uid: number;
  /** The path by which it was started, which it executes on SIGUSR1. */
  readonly argv0: string;
}

/** Whether two paths name one file. */
export function sameFile(one: string, other: string): boolean {
  try {
    const [a, b] = [one, other].map((file) => statSync(file, { bigint: true }));
    return a?.dev === b?.dev && a?.ino === b?.ino;
  } catch {
    return false;
  }
}

/** Whether `program` is that file, or has its name with a suffix. */
function isNameOf(program: string, file: string): boolean {
  return program.startsWith(file) && path.dirname(program) === path.dirname(file);
}

/** The path of libvirt's program as the kernel shows it: /usr/sbin is a link on Fedora since 42. */
function realProgram(): string {
  try {
    return path.join(realpathSync(path.dirname(PROGRAM)), path.basename(PROGRAM));
  } catch {
    return PROGRAM;
  }
}

const isOurRuntime = (program: string, installRoot: string): boolean =>
  // A program that dpkg or rpm has replaced is known by its old name, with or without a suffix of theirs.
  program.startsWith(path.join(installRoot, 'bin/node'));

/** The user of a process whose four user ids are one; undefined for another, such as a program with the set-user-ID bit. */
function onlyUserOf(pid: number): number | undefined {
  const users = new Set(usersOf(pid));
  const [user] = users;
  return users.size === 1 ? user : undefined;
}

/** @throws Error when the process has ended */
function identify(pid: number, installRoot: string, uid: number): LockDaemon | undefined {
  const program = programOf(pid);
  const isLibvirts = isNameOf(program, PROGRAM) || isNameOf(program, realProgram());
  if (!isLibvirts && !isOurRuntime(program, installRoot)) return undefined;
  if (onlyUserOf(pid) !== uid) return undefined;
  const args = commandLineOf(pid);
  if (isLibvirts) return { pid, kind: 'libvirt', uid, argv0: args[0] ?? '' };
  // The first word that is no option of the runtime. Words of other programs that run on it may come from anybody.
  const script = args.findIndex((word, at) => at > 0 && !word.startsWith('-'));
  const argv0 = args[script + 1];
  // A child that checks a state document, or prints a version, is no daemon.
  if (args[script]?.endsWith('/dist/start.cjs') !== true || argv0 === undefined) return undefined;
  if (args.some((word) => word.startsWith('--check-state'))) return undefined;
  return { pid, kind: 'own', uid, argv0 };
}

/** The lock daemons of a user, except those with another root directory, whose files are others. */
export function findDaemons(installRoot: string, uid: number): LockDaemon[] {
  return processes().flatMap((pid) => {
    try {
      const daemon = identify(pid, installRoot, uid);
      return daemon !== undefined && sameFile(`/proc/${pid}/root/usr`, '/usr') ? [daemon] : [];
    } catch {
      return [];
    }
  });
}

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Users other than root who run this package's runtime, be it as a lock daemon or not, where they see the same files. A process of
 * such a user tells the rest, if it is asked as that user.
 */
export function usersOfRuntime(installRoot: string): User[] {
  const users = new Map<number, User>();
  for (const pid of processes()) {
    try {
      if (!isOurRuntime(programOf(pid), installRoot) || sharesMounts(pid) !== true) continue;
      const uid = onlyUserOf(pid);
      if (uid !== undefined && uid !== 0 && !users.has(uid)) users.set(uid, { uid, gid: groupOf(pid) });
    } catch {
      // The process has ended.
    }
  }
  return [...users.values()];
}

/** The file that a C daemon executes again. It looks `argv0` up in its own working directory and PATH, as a shell does. */
export function resolveProgram(pid: number, argv0: ByteString): ByteString | undefined {
  if (argv0.includes('/')) return path.resolve(workingDirectoryOf(pid), argv0);
  const search =
    environmentOf(pid)
      .find((entry) => entry.startsWith('PATH='))
      ?.slice('PATH='.length) ?? '';
  const candidates = search.split(':').map((directory) => path.join(directory, argv0));
  return candidates.find(
    (candidate) => path.isAbsolute(candidate) && existsSync(toPath(`/proc/${pid}/root${candidate}`)),
  );
}

/** Links on the way to a file, at most: the kernel's limit. */
const MAX_LINKS = 40;

/**
 * Whether only root and that user can have put a file at a path: it is theirs, and so are all directories and links on the way, and nobody
 * else can write in these directories. One of the links may be /var/run.
 */
export function isBeyondOthers(file: string, uid: number): boolean {
  try {
    return file === path.resolve(file) && isTheirs(file, uid, { left: MAX_LINKS });
  } catch {
    return false;
  }
}

/** Whether no one else can have put anything on the way to a path, and at it. @throws Error of lstat */
function isTheirs(file: string, uid: number, links: { left: number }): boolean {
  const { uid: owner } = lstatSync(file);
  if (owner !== 0 && owner !== uid) return false;
  if (file === '/') return true;
  const directory = path.dirname(file);
  if (!isTheirs(directory, uid, links)) return false;
  const real = realpathSync(directory);
  if ((lstatSync(real).mode & 0o022) !== 0) return false;
  if (!lstatSync(file).isSymbolicLink()) return true;
  const target = readlinkSync(file);
  // What comes before such a `..` may be a link itself.
  if (/[^./][^/]*\/+\.\.(?:\/|$)/.test(target)) return false;
  return links.left-- > 0 && isTheirs(path.resolve(real, target), uid, links);
}

/**
 * The paths at which a lock daemon listens. The kernel prints names of sockets as they are, line breaks included, so anybody can bind a
 * socket whose name adds a row to the list, with the daemon's socket at another path. Only paths count that nobody else can have made.
 */
export function socketsOfDaemon(
  pid: number,
  uid: number,
): { socket: string | undefined; adminSocket: string | undefined } {
  const paths = listensAt(pid);
  const at = (ending: string): string | undefined =>
    paths.find((file) => file.endsWith(ending) && isBeyondOthers(file, uid));
  return { socket: at('/virtlockd-sock'), adminSocket: at('/virtlockd-admin-sock') };
}

/**
 * The locks of a process, as texts to compare.
 * @param pidFile its lock is left out, because a program that was just executed may not have it yet
 */
export function leasesOf(pid: number, pidFile?: string): string[] {
  const stat = pidFile === undefined ? undefined : statSync(pidFile, { throwIfNoEntry: false, bigint: true });
  const inode = stat && fileIdOf(stat).inode;
  // Another byte's is that of a note of the holder (storage/notes.h), in a file that a helper has handed over.
  return [...steadyLocksOf(pid)].flatMap(([text, row]) => (row.inode === inode || !coversFirstByte(row) ? [] : [text]));
}

/**
 * When a C daemon was last executed, in seconds since 1970. It writes its pid file at every exec; without one this is 0. A locked file
 * of such a name, to which its owner may give any time, is told from it by its contents, and of several the oldest counts: with that,
 * more clients count as such that have not called.
 */
export function imageStart(pid: number): number {
  const uid = onlyUserOf(pid);
  const times = Array.from(openedBy(pid)).flatMap(([fd, name]) => {
    if (!name.endsWith('.pid')) return [];
    const link = descriptorPath(pid, fd);
    const file = unlessGone(() => statSync(link));
    if (file?.isFile() !== true || file.uid !== uid || file.size > MAX_PID_FILE) return [];
    const says = unlessGone(() => readFileSync(link, 'latin1'));
    return says?.trim() === String(pid) ? [Math.floor(file.mtimeMs / 1000)] : [];
  });
  return times.length === 0 ? 0 : Math.min(...times);
}
