/** The files of a run, on disk and in the model. */
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import type { FileAct } from './steps.ts';
import type { Entry, Tree } from './tree.ts';

/** Changes a file on disk. @throws when the act is impossible, which it is in the model too */
function actOnDisk(directory: string, act: FileAct, name: string, to: string): void {
  const path = `${directory}/${name}`;
  const target = `${directory}/${to}`;
  switch (act) {
    case 'create':
      // Never opens an existing file: this process may hold it, and would drop its lock at the close.
      closeSync(openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600));
      break;
    case 'unlink':
      unlinkSync(path);
      break;
    case 'rename':
      renameSync(path, target);
      break;
    case 'link':
      linkSync(path, target);
      break;
    case 'symlink':
      symlinkSync(to, path);
      break;
    case 'mkdir':
      mkdirSync(path);
      break;
  }
}

/** Changes a file in the model, by the rules of link(2), rename(2) and so on. */
function actInTree(entries: Map<string, Entry>, parent: Tree['root'], act: FileAct, name: string, to: string): void {
  const present = entries.get(name);
  const other = entries.get(to);
  switch (act) {
    case 'create':
      if (present === undefined) entries.set(name, { kind: 'file' });
      break;
    case 'unlink':
      if (present !== undefined && present.kind !== 'directory') entries.delete(name);
      break;
    case 'rename': {
      if (present === undefined || present === other || name === to) return;
      if (present.kind === 'directory') {
        if (other !== undefined && (other.kind !== 'directory' || other.entries.size > 0)) return;
      } else if (other?.kind === 'directory') return;
      entries.delete(name);
      entries.set(to, present);
      break;
    }
    case 'link':
      if (present !== undefined && present.kind !== 'directory' && other === undefined) entries.set(to, present);
      break;
    case 'symlink':
      if (present === undefined) entries.set(name, { kind: 'link', target: to });
      break;
    case 'mkdir':
      if (present === undefined) entries.set(name, { kind: 'directory', entries: new Map(), parent });
      break;
  }
}

export function changeFiles(base: string, run: string, tree: Tree, act: FileAct, name: string, to: string): void {
  try {
    actOnDisk(`${base}/${run}`, act, name, to);
  } catch {
    // Impossible, for the model too.
  }
  const directory = tree.root.entries.get(run);
  if (directory?.kind === 'directory') actInTree(directory.entries, directory, act, name, to);
}

/** As {@link Tree.listing}, of what is on disk. Nothing is opened. */
export function listing(base: string, prefix = ''): string[] {
  const lines: string[] = [];
  for (const entry of readdirSync(Buffer.from(`${base}/${prefix}`, 'latin1'), { encoding: 'buffer' })) {
    const name = entry.toString('latin1');
    const stat = lstatSync(Buffer.from(`${base}/${prefix}${name}`, 'latin1'));
    const kind = stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'link' : stat.isFIFO() ? 'fifo' : 'file';
    lines.push(`${prefix}${name} ${kind}`);
    if (kind === 'directory') lines.push(...listing(base, `${prefix}${name}/`));
  }
  return prefix === '' ? lines.sort() : lines;
}

/** Empties the directory. Faster than rmSync, which a run that takes a millisecond notices. */
export function wipe(base: string | Buffer): void {
  for (const entry of readdirSync(base, { encoding: 'buffer', withFileTypes: true })) {
    const path = Buffer.concat([Buffer.from(base), Buffer.from('/'), entry.name]);
    if (entry.isDirectory()) {
      wipe(path);
      rmdirSync(path);
    } else unlinkSync(path);
  }
}
