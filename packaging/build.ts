/**
 * Builds the Debian package, without root: build/virtlockd-node_VERSION_ARCH.deb.
 *
 *     npm run package [-- --arch=arm64] [--compression=gzip] [--level=1] [--version=V]
 *
 * tree.ts assembles what is installed, parts.ts finds or compiles what depends on the architecture, and deb.ts makes the package.
 *
 * The package for another architecture needs its Node.js (npm's package node-linux-ARCH, fetched if missing) and Debian's cross
 * compilers. Without them this exits with status 2.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildDeb } from './deb.ts';
import { builtParts, isArchitecture } from './parts.ts';
import { packageJson, root, Tree } from './tree.ts';

const { values: options } = parseArgs({
  options: {
    arch: { type: 'string', default: process.arch === 'arm64' ? 'arm64' : 'amd64' },
    compression: { type: 'string', default: 'xz' },
    level: { type: 'string', default: '6' },
    version: { type: 'string', default: packageJson.version },
  },
});
const { arch } = options;

process.umask(0o022);
const work = path.join(root, 'build', `package-${arch}`);
const tree = new Tree(path.join(work, 'tree'));
fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(tree.directory, { recursive: true });
const parts = isArchitecture(arch) ? await builtParts(root, work, arch) : 'there is no such Node.js runtime';
if (typeof parts === 'string') {
  console.error(`package: no package for ${arch}: ${parts}`);
  process.exit(2);
}
const { output, installed } = buildDeb(tree, parts, options);
console.log(`${output}: ${fs.statSync(output).size} bytes, ${installed} bytes installed`);
