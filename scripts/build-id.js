/**
 * Writes dist/build.json: the `id` of a build, and in `parts` each of its files by its path below the installation's root, with
 * length and CRC-32. A start checks the files that it uses (src/programs/start.cjs), the proof of a successor checks all
 * (src/restart/build.ts). They find damage and half-done upgrades, not forgery. Node.js has CRC-32 without loading a module.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { crc32 } from 'node:zlib';

/** Not a part: swap.cjs is built later, and runs by itself. */
const OTHERS = new Set(['build.json', 'swap.cjs']);

/**
 * @param {string} root the installation's root: a checkout, or the package's directory
 * @param {{ version: string, arch: string }} runtime the Node.js that will run it, with its name of the architecture
 */
export function writeBuild(root, { version, arch }) {
  const parts = Object.fromEntries(partsOf(root).map((part) => [part, digest(readFileSync(path.join(root, part)))]));
  const runtime = `v${version} ${arch}`;
  const id = createHash('sha256').update(JSON.stringify({ runtime, parts })).digest('hex').slice(0, 16);
  const file = path.join(root, 'dist/build.json');
  writeFileSync(`${file}.new`, `${JSON.stringify({ id, runtime, parts }, null, 1)}\n`);
  renameSync(`${file}.new`, file);
}

/**
 * The files of dist/, those that start it, and those of fs-ext that run.
 * @param {string} root
 */
function partsOf(root) {
  const dist = readdirSync(path.join(root, 'dist'), { withFileTypes: true })
    .filter((entry) => entry.isFile() && !OTHERS.has(entry.name) && !entry.name.endsWith('.new'))
    .map(({ name }) => `dist/${name}`);
  const fsExt = fsExtBelow(root);
  const ofFsExt = ['package.json', 'fs-ext.js', 'build/Release/fs_ext.node'].map((file) => path.join(fsExt, file));
  return [...dist, 'bin/virtlockd', 'bin/launcher.sh', ...ofFsExt]
    .filter((part) => existsSync(path.join(root, part)))
    .sort();
}

/**
 * The path of fs-ext from the root. Links are not resolved: the copy of an installation may have others.
 * @param {string} root
 */
function fsExtBelow(root) {
  const usual = 'node_modules/fs-ext';
  if (existsSync(path.join(root, usual))) return usual;
  // npm may have installed it beside the root.
  const manifest = createRequire(path.join(root, 'package.json')).resolve('fs-ext/package.json');
  return path.relative(root, path.dirname(manifest));
}

/** @param {Buffer} bytes */
function digest(bytes) {
  return `${bytes.length}:${crc32(bytes).toString(16)}`;
}
