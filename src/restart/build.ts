/** The start script's report on the build that it started: see programs/start.cjs and scripts/build-id.js. */
import { statSync } from 'node:fs';

export interface Loaded {
  /** The build's id; null when it is unknown. */
  readonly id: string | null;
  /** Differences from the build, in words. In a proof, any of these keeps this program from being run. */
  readonly complaints: readonly string[];
  /** In a proof: the identity of each file of the build, from before it was read. */
  readonly identities: Identities;
}

/** Identities by path. A file's identity changes when it is replaced or written to. */
export type Identities = Readonly<Record<string, string>>;

/** Set by the start script; null while the build makes the code cache, and undeclared in builds without ids. */
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

/** The first file with another identity, or undefined. */
export function findChanged(identities: Identities): string | undefined {
  return Object.keys(identities).find((file) => identityOf(file) !== identities[file]);
}

/** As the start script computes it. */
function identityOf(file: string): string | undefined {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found && [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
}
