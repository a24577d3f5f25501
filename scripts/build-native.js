/**
 * Builds the native modules (our addons and fs-ext) against the headers of the pinned Node.js, whatever Node.js runs npm.
 * Modules that are newer than their sources stay.
 */
import fs from 'node:fs';
import path from 'node:path';
import { writeBuild } from './build-id.js';
import { BuildError } from './compile.js';
import { compilePart, nativeParts } from './native-parts.js';
import { runtime } from './runtime.js';

const root = path.resolve(import.meta.dirname, '..');
const wanted = `node ${runtime.version} ${runtime.arch}`;
/** The files that say how parts are made. */
const recipes = ['build-native.js', 'native-parts.js', 'compile.js'].map((file) =>
  path.join(import.meta.dirname, file),
);

/**
 * Makes a part unless it was made from the present sources for the present runtime.
 * @param {import('./native-parts.js').NativePart} part
 */
function build(part) {
  const output = path.join(root, part.file);
  const stamp = path.join(root, 'build/made-for', path.basename(output));
  const made = fs.existsSync(stamp) && fs.existsSync(output) ? fs.readFileSync(stamp, 'utf8') : '';
  const time = made === wanted ? Math.min(fs.statSync(stamp).mtimeMs, fs.statSync(output).mtimeMs) : 0;
  if ([...part.sources, ...part.headers, ...recipes].every((source) => fs.statSync(source).mtimeMs <= time)) return;
  compilePart(part, output, path.join(runtime.directory, 'include/node'));
  fs.mkdirSync(path.dirname(stamp), { recursive: true });
  fs.writeFileSync(stamp, wanted);
}

try {
  for (const part of nativeParts(root)) build(part);
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`build-native: ${error.message}`);
  process.exit(1);
}
// In an installation from npm the bundles are there already, and only the native modules are new.
writeBuild(root, runtime);
