/**
 * dist/build.json: what belongs together. Its `id` stands for one build, and `parts` names every file of that by its path below
 * the installation's root, with its length and CRC-32. A start compares what it is about to use (src/programs/start.cjs), and the
 * proof of a successor all of it (src/restart/build.ts). What this is for is damage, and an upgrade that is half done: whoever can forge a part
 * can forge this file, too. A CRC-32 finds every flipped bit, and Node.js has one that it need not load anything for.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { crc32 } from 'node:zlib';

/** Bundles of the package's scripts, made after the build and run by themselves. */
const OTHERS = new Set(['build.json', 'swap.cjs']);

/**
 * @param {string} root the installation's root: a checkout, or the package's directory
 * @param {{ version: string, arch: string }} runtime the Node.js that will run it, and the name that has for the architecture
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
 * What dist/ holds by now, what starts it, and what of fs-ext runs.
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
 * Where fs-ext is, seen from the root. Links stay as they are: the copy of an installation may have others.
 * @param {string} root
 */
function fsExtBelow(root) {
  const usual = 'node_modules/fs-ext';
  if (existsSync(path.join(root, usual))) return usual;
  // npm may have put it beside the root.
  const manifest = createRequire(path.join(root, 'package.json')).resolve('fs-ext/package.json');
  return path.relative(root, path.dirname(manifest));
}

/** @param {Buffer} bytes */
function digest(bytes) {
  return `${bytes.length}:${crc32(bytes).toString(16)}`;
}
