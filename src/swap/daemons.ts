/** Finds the lock daemons of this host in /proc. */
import { existsSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { PROGRAM } from '../libvirt/paths.ts';
import { toPath } from '../posix/bytes.ts';
import { descriptorPath, fileIdOf, openedBy } from '../proc/descriptors.ts';
import { coversFirstByte, steadyLocksOf } from '../proc/locks.ts';
import {
  commandLineOf,
  environmentOf,
  processes,
  programOf,
  statusOf,
  unlessGone,
  workingDirectoryOf,
} from '../proc/processes.ts';
import { listensAt } from '../proc/sockets.ts';

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

/** @throws Error when the process has ended, or belongs to another user */
function identify(pid: number, installRoot: string): LockDaemon | undefined {
  const program = programOf(pid);
  const args = commandLineOf(pid);
  const uid = Number(statusOf(pid, 'Uid')?.split('\t')[1]);
  // A program that dpkg has replaced is known by its old name, with or without a suffix of dpkg's or rpm's.
  if (isNameOf(program, PROGRAM) || isNameOf(program, realProgram())) {
    return { pid, kind: 'libvirt', uid, argv0: args[0] ?? '' };
  }
  if (!program.startsWith(path.join(installRoot, 'bin/node'))) return undefined;
  const script = args.findIndex((word) => word.endsWith('/dist/start.cjs'));
  const argv0 = args[script + 1];
  // A child that checks a state document, or prints a version, is no daemon.
  if (script < 0 || argv0 === undefined || args.some((word) => word.startsWith('--check-state'))) return undefined;
  return { pid, kind: 'own', uid, argv0 };
}

/** The lock daemons of all users, except those with another root directory, whose files are others. */
export function findDaemons(installRoot: string): LockDaemon[] {
  return processes().flatMap((pid) => {
    try {
      const daemon = identify(pid, installRoot);
      return daemon !== undefined && sameFile(`/proc/${pid}/root/usr`, '/usr') ? [daemon] : [];
    } catch {
      return [];
    }
  });
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

/** The paths at which a lock daemon listens. */
export function socketsOfDaemon(pid: number): { socket: string | undefined; adminSocket: string | undefined } {
  const paths = listensAt(pid);
  const at = (ending: string): string | undefined => paths.find((file) => file.endsWith(ending));
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
 * When a C daemon was last executed, in seconds since 1970. It writes its pid file at every exec; without one this is 0.
 */
export function imageStart(pid: number): number {
  for (const [fd, name] of openedBy(pid)) {
    if (!name.endsWith('.pid')) continue;
    const file = unlessGone(() => statSync(descriptorPath(pid, fd)));
    if (file !== undefined) return Math.floor(file.mtimeMs / 1000);
  }
  return 0;
}
