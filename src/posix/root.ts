/** Where this program is installed: the directory above src/ in a checkout, above dist/ in a bundle. */
import { createRequire } from 'node:module';
import path from 'node:path';

/** Defined by scripts/build.js inside bundles only. */
declare const BUNDLED: true | undefined;

export const installRoot = path.resolve(import.meta.dirname, typeof BUNDLED === 'undefined' ? '../..' : '..');

/** Loads a CommonJS module or an addon as seen from the installation's root. */
export const requireFromRoot: NodeJS.Require = createRequire(path.join(installRoot, 'package.json'));
