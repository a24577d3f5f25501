/**
 * Builds a package, without root: build/virtlockd-node_VERSION_ARCH.deb, or build/virtlockd-node-VERSION-1.ARCH.rpm.
 *
 *     npm run package [-- --format=rpm] [--arch=arm64] [--compression=gzip] [--level=1] [--version=V]
 *
 * tree.ts assembles what is installed, parts.ts finds or compiles what depends on the architecture, and deb.ts and rpm.ts make the packages.
 *
 * The package for another architecture needs its Node.js (npm's package node-linux-ARCH, fetched if missing) and Debian's cross
 * compilers, and the RPM package needs rpmbuild. Without them this exits with status 2.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildDeb } from './deb.ts';
import { builtParts, isArchitecture } from './parts.ts';
import { buildRpm, missingRpmbuild } from './rpm.ts';
import { packageJson, root, Tree } from './tree.ts';

const FORMATS = { deb: buildDeb, rpm: buildRpm };
const isFormat = (name: string): name is keyof typeof FORMATS => Object.hasOwn(FORMATS, name);

const { values: options } = parseArgs({
  options: {
    format: { type: 'string', default: 'deb' },
    /** As Debian names it, for both formats. */
    arch: { type: 'string', default: process.arch === 'arm64' ? 'arm64' : 'amd64' },
    compression: { type: 'string', default: 'xz' },
    level: { type: 'string', default: '6' },
    version: { type: 'string', default: packageJson.version },
  },
});
const { arch, format } = options;

function impossible(why: string): never {
  console.error(`package: no package for ${arch}: ${why}`);
  process.exit(2);
}

process.umask(0o022);
if (!isFormat(format)) impossible(`there is no format '${format}', only ${Object.keys(FORMATS).join(' and ')}`);
const missing = format === 'rpm' ? missingRpmbuild() : undefined;
if (missing !== undefined) impossible(missing);
const work = path.join(root, 'build', format === 'deb' ? `package-${arch}` : `package-${arch}-${format}`);
const tree = new Tree(path.join(work, 'tree'));
fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(tree.directory, { recursive: true });
const parts = isArchitecture(arch) ? await builtParts(root, work, arch) : 'there is no such Node.js runtime';
if (typeof parts === 'string') impossible(parts);
const { output, installed } = FORMATS[format](tree, parts, options);
console.log(`${output}: ${fs.statSync(output).size} bytes, ${installed} bytes installed`);
