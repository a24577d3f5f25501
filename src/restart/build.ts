/** What the start script says of the build that it started: see programs/start.cjs and scripts/build-id.js. */
import { statSync } from 'node:fs';

export interface Loaded {
  /** The build's id; null when there is no telling. */
  readonly id: string | null;
  /** What is not as the build made it, in words. A proof with any does not get as far as this program. */
  readonly complaints: readonly string[];
  /** In a proof: each file of the build by its path, and what it was before it was read. */
  readonly identities: Identities;
}

/** Paths, and what differs for a file that has been replaced or written to since. */
export type Identities = Readonly<Record<string, string>>;

/** Given by the start script; null while the build makes the code cache, and lacking in one of a build without ids. */
declare const LOADED: Loaded | null | undefined;

const STRANGE: Loaded = {
  id: null,
  complaints: ['dist/start.cjs is not of the build of dist/virtlockd.cjs'],
  identities: {},
};

/** Null when the build has no id yet. */
export function whatWasLoaded(): Loaded | null {
  return typeof LOADED === 'undefined' ? STRANGE : LOADED;
}

/** The first file that is not what it was, or undefined. */
export function findChanged(identities: Identities): string | undefined {
  return Object.keys(identities).find((file) => identityOf(file) !== identities[file]);
}

/** As the start script puts it. */
function identityOf(file: string): string | undefined {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found && [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
}
