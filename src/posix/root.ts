/** Where this program is installed: the directory above src/ in a checkout, above dist/ in a bundle. */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** Defined by scripts/bundle.ts inside bundles only. */
declare const BUNDLED: true | undefined;

export const installRoot = resolve(import.meta.dirname, typeof BUNDLED === 'undefined' ? '../..' : '..');

/** Where npm puts what it installs for this package, or a file of that: below it, or beside it. Null when it is in neither place. */
export function directoryOf(dependency: string): string | null {
  const places = [join(installRoot, 'node_modules', dependency)];
  const parent = dirname(installRoot);
  if (basename(parent) === 'node_modules') places.push(join(parent, dependency));
  return places.find((place) => existsSync(place)) ?? null;
}

let require: NodeJS.Require | undefined;

/**
 * Loads a CommonJS module of the installation, or of a package that was installed for it: what is needed late, or cannot be
 * bundled. Never one that lies anywhere else. Node.js would also look in the directories above, in NODE_PATH and in HOME.
 *
 * @param file one of the installation, beginning with `./`, or of a package. It is named, for Node.js remembers for ever that it
 * once could not read a package.json.
 */
export function requireFromRoot(file: string): unknown {
  const place = file.startsWith('./') ? file : directoryOf(file);
  if (place === null) throw new Error(`${file} is not installed below ${installRoot}`);
  // Not imported: a start needs neither this nor what it loads.
  require ??= process.getBuiltinModule('node:module').createRequire(join(installRoot, 'package.json'));
  return require(place);
}
