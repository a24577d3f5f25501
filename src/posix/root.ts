/** Where this program is installed: the directory above src/ in a checkout, above dist/ in a bundle. */
import path from 'node:path';

/** Defined by scripts/build.js inside bundles only. */
declare const BUNDLED: true | undefined;

export const installRoot = path.resolve(import.meta.dirname, typeof BUNDLED === 'undefined' ? '../..' : '..');

let require: NodeJS.Require | undefined;

/** Loads a CommonJS module as seen from the installation's root: what is needed late, or cannot be bundled. */
export function requireFromRoot(name: string): unknown {
  // Not imported: a start needs neither this nor what it loads.
  require ??= process.getBuiltinModule('node:module').createRequire(path.join(installRoot, 'package.json'));
  return require(name);
}
