/** Where this program is installed: the directory above src/ in a checkout, above dist/ in a bundle. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/** Defined by scripts/bundle.ts inside bundles only. */
declare const BUNDLED: true | undefined;

export const installRoot = resolve(import.meta.dirname, typeof BUNDLED === 'undefined' ? '../..' : '..');

/** Where npm has installed a dependency of this package, or a file of one: below the package or beside it. Null if in neither. */
export function directoryOf(dependency: string): string | null {
  const places = [join(installRoot, 'node_modules', dependency)];
  const parent = dirname(installRoot);
  if (basename(parent) === 'node_modules') places.push(join(parent, dependency));
  return places.find((place) => existsSync(place)) ?? null;
}

let require: NodeJS.Require | undefined;

/**
 * Loads a CommonJS module that is needed late or cannot be bundled, from the installation or a package installed for it, and from
 * nowhere else: Node.js would also search the directories above, NODE_PATH and HOME.
 *
 * @param file begins with `./` in the installation, else with the package's name. A file, because Node.js never tries again to read
 * a package.json that it once could not read.
 */
export function requireFromRoot(file: string): unknown {
  const place = file.startsWith('./') ? file : directoryOf(file);
  if (place === null) throw new Error(`${file} is not installed below ${installRoot}`);
  // Not imported: a start does not need it.
  require ??= process.getBuiltinModule('node:module').createRequire(join(installRoot, 'package.json'));
  return require(place);
}

/** The version in package.json; 'unknown' if that cannot be read. */
export function installedVersion(): string {
  try {
    const { version } = JSON.parse(readFileSync(`${installRoot}/package.json`, 'utf8')) as { version?: string };
    return version ?? 'unknown';
  } catch {
    return 'unknown';
  }
}
