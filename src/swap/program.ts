/** The program files of both implementations. Puts one in the place of the other, atomically. */
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
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import path from 'node:path';
import { PROGRAM } from '../libvirt/paths.ts';
import { installRoot } from '../posix/root.ts';
import { type Kind, sameFile } from './daemons.ts';
import { Unsafe } from './errors.ts';

/** The program that was at the path before the first swap. */
const KEPT = '.before-swap';
/** Our package diverts libvirt's program to this path. */
const DIVERTED = '/usr/sbin/virtlockd.libvirt';

/**
 * The program of a kind.
 * @param running the path by which the running daemon was started
 * @throws Unsafe when there is none, or one that cannot be read
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

/** libvirt's program is compiled, ours is a script. @throws Unsafe when it cannot be read, and so may be either */
export function kindOf(program: string): Kind {
  return isCompiled(program) ? 'libvirt' : 'own';
}

/** What open and read say where there is no program. Any other error (EIO, ESTALE, ENOMEM) says nothing of what is there. */
const NO_PROGRAM: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR']);

/** @throws Unsafe when there is a file that cannot be read */
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
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (NO_PROGRAM.has(code)) return false;
    throw new Unsafe(`${program} cannot be read, so its kind is not known: ${message}`);
  }
}

export interface Installation {
  /** Puts the former program back. */
  undo(): void;
  /** Removes files that are not needed after a successful swap. */
  finish(): void;
}

/**
 * Puts a program at a path, atomically. Keeps the former program beside it. Installing that kept file moves it back.
 * @throws Unsafe with nothing changed
 */
export function install(target: string, at: string): Installation {
  const kept = at + KEPT;
  const fresh = `${at}.new`;
  try {
    rmSync(fresh, { force: true });
    const present = lstatSync(at);
    const link = present.isSymbolicLink() ? readlinkSync(at) : null;
    if (sameFile(target, at) && link === null) return NOTHING_TO_DO;
    // A link to another program of ours need not be kept.
    const isKept = link === null || isCompiled(at);
    if (isKept && existsSync(kept) && !sameFile(kept, at)) {
      throw new Error(`${kept} exists and is another file: move it away first`);
    }
    // linkSync makes another name of a link, not of its target.
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
