/**
 * The model's files below the working directory: enough of a file system to resolve paths. Paths are bytes, one a character.
 */

export interface Directory {
  readonly kind: 'directory';
  readonly entries: Map<string, Entry>;
  readonly parent: Directory | null;
}
export type Entry =
  | Directory
  | { readonly kind: 'file' }
  | { readonly kind: 'fifo' }
  | { readonly kind: 'link'; readonly target: string };

/** The last component of a path. `entry` is null for a free name. */
export interface Place {
  readonly directory: Directory;
  readonly name: string;
  readonly entry: Entry | null;
  /** The path ends in a slash, so it can only name a directory. */
  readonly slash: boolean;
}

/** Why a path names nothing; `outside` of the model's files. */
type Astray = 'ENOENT' | 'ENOTDIR' | 'ENAMETOOLONG' | 'ELOOP' | 'outside';

const MAX_NAME = 255;
const MAX_PATH = 4095;
const MAX_LINKS = 40;

export class Tree {
  readonly root: Directory = { kind: 'directory', entries: new Map(), parent: null };

  /** Finds a path; a link at its end is followed when `follow` says so. */
  find(path: string, follow: boolean, from: Directory = this.root, links = 0): Place | Astray {
    if (path === '') return 'ENOENT';
    if (path.length > MAX_PATH) return 'ENAMETOOLONG';
    if (path.startsWith('/')) return 'outside';
    const words = path.split('/').filter((word) => word !== '' && word !== '.');
    const slash = /(^|\/)\.?$/.test(path);
    const last = words.pop();
    let directory = from;
    for (const word of words) {
      const next = this.step(directory, word, links);
      if (typeof next === 'string') return next;
      directory = next;
    }
    if (last === undefined) return { directory, name: '.', entry: directory, slash: true };
    if (last === '..') {
      const { parent } = directory;
      return parent === null ? 'outside' : { directory: parent, name: '.', entry: parent, slash: true };
    }
    if (last.length > MAX_NAME) return 'ENAMETOOLONG';
    const entry = directory.entries.get(last) ?? null;
    if (entry?.kind === 'link' && (follow || slash)) {
      // unlink(2) and mkdir(2) refuse the slash before they follow.
      if (!follow) return 'ENOTDIR';
      if (links >= MAX_LINKS) return 'ELOOP';
      const place = this.find(entry.target, true, directory, links + 1);
      return typeof place === 'string' ? place : { ...place, slash: place.slash || slash };
    }
    return { directory, name: last, entry, slash };
  }

  private step(directory: Directory, word: string, links: number): Directory | Astray {
    if (word === '..') return directory.parent ?? 'outside';
    if (word.length > MAX_NAME) return 'ENAMETOOLONG';
    const entry = directory.entries.get(word);
    if (entry === undefined) return 'ENOENT';
    if (entry.kind === 'directory') return entry;
    if (entry.kind !== 'link') return 'ENOTDIR';
    if (links >= MAX_LINKS) return 'ELOOP';
    const place = this.find(entry.target, true, directory, links + 1);
    if (typeof place === 'string') return place;
    if (place.entry === null) return 'ENOENT';
    return place.entry.kind === 'directory' ? place.entry : 'ENOTDIR';
  }

  /** Makes a directory with its parents. Null, or the error. */
  makeDirectories(path: string): Astray | null {
    if (path.startsWith('/') || path.split('/').includes('..')) return 'outside';
    const words = path.split('/').filter((word) => word !== '' && word !== '.');
    for (let count = 1; count <= words.length; count++) {
      const path = words.slice(0, count).join('/');
      const place = this.find(path, false);
      if (typeof place === 'string') return place;
      const { entry } = place;
      if (entry === null) {
        place.directory.entries.set(place.name, { kind: 'directory', entries: new Map(), parent: place.directory });
        continue;
      }
      const at = entry.kind === 'link' ? this.find(path, true) : place;
      if (at === 'outside') return at;
      // mkdir(2) refuses the name of a dangling link.
      if (typeof at === 'string' || at.entry?.kind !== 'directory') return 'ENOTDIR';
    }
    return null;
  }

  /** Every path with its kind, sorted. */
  listing(directory = this.root, prefix = ''): string[] {
    const lines: string[] = [];
    for (const [name, entry] of directory.entries) {
      lines.push(`${prefix}${name} ${entry.kind}`);
      if (entry.kind === 'directory') lines.push(...this.listing(entry, `${prefix}${name}/`));
    }
    return prefix === '' ? lines.sort() : lines;
  }
}
