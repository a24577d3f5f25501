/** Program files: where the two implementations are, and how one is put in the other's place in one step. */
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import path from 'node:path';
import { PROGRAM } from '../libvirt/paths.ts';
import { installRoot } from '../posix/root.ts';
import type { Kind } from './daemons.ts';
import { Unsafe } from './errors.ts';

/** What was at the path before the first swap. */
const KEPT = '.before-swap';
/** Where our package diverts libvirt's program to. */
const DIVERTED = '/usr/sbin/virtlockd.libvirt';

/**
 * The program of a kind.
 * @param running the path by which the running daemon was started
 * @throws Unsafe when there is none
 */
export function findProgram(kind: Kind, running: string): string {
  if (kind === 'own') {
    const own = path.join(installRoot, 'bin/virtlockd');
    if (existsSync(own)) return own;
    throw new Unsafe(`there is no ${own}: name the program with --to PATH`);
  }
  const candidates = [running + KEPT, DIVERTED, PROGRAM];
  const found = candidates.find(isCompiled);
  if (found !== undefined) return found;
  throw new Unsafe(`libvirt's virtlockd is none of ${candidates.join(', ')}: name it with --to PATH`);
}

/** Of which kind a program is: libvirt's is a compiled one, ours a script. */
export function kindOf(program: string): Kind {
  return isCompiled(program) ? 'libvirt' : 'own';
}

function isCompiled(program: string): boolean {
  try {
    const fd = openSync(program, 'r');
    try {
      const magic = Buffer.alloc(4);
      readSync(fd, magic, 0, 4, 0);
      return magic.equals(Buffer.from('\x7fELF', 'latin1'));
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

export interface Installation {
  /** Puts back what was there. */
  undo(): void;
  /** Removes what is not needed any more once the swap has succeeded. */
  finish(): void;
}

/**
 * Puts a program at a path, in one step. What was there, if it was a file of its own, is kept beside it; putting that back
 * makes it the file at the path again.
 * @throws Unsafe with nothing changed
 */
export function install(target: string, at: string): Installation {
  const kept = at + KEPT;
  const fresh = `${at}.new`;
  try {
    rmSync(fresh, { force: true });
    const present = lstatSync(at);
    const link = present.isSymbolicLink() ? readlinkSync(at) : null;
    if (isSame(target, at) && link === null) return NOTHING_TO_DO;
    // A link to another of our own programs is nothing that somebody will want back.
    const isKept = link === null || isCompiled(at);
    if (isKept && existsSync(kept) && !isSame(kept, at)) {
      throw new Error(`${kept} is there already, and is something else: move it away first`);
    }
    // Of a link this makes another name, too.
    if (isKept && !existsSync(kept)) linkSync(at, kept);
    if (target === kept) linkSync(kept, fresh);
    else symlinkSync(target, fresh);
    renameSync(fresh, at);
    return {
      undo: () => {
        rmSync(fresh, { force: true });
        if (isKept) renameSync(kept, at);
        else {
          symlinkSync(link, fresh);
          renameSync(fresh, at);
        }
      },
      finish: () => {
        if (target === kept) unlinkSync(kept);
      },
    };
  } catch (error) {
    rmSync(fresh, { force: true });
    throw new Unsafe(`cannot put ${target} at ${at}: ${(error as Error).message}`);
  }
}

const NOTHING_TO_DO: Installation = { undo: () => undefined, finish: () => undefined };

function isSame(one: string, other: string): boolean {
  const [a, b] = [statSync(one, { bigint: true }), statSync(other, { bigint: true })];
  return a.dev === b.dev && a.ino === b.ino;
}
