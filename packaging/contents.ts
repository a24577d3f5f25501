/** Lists what a package contains: see spdx.ts. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { bundled, npmPackage, type NpmPackage } from '../scripts/bundled.ts';
import type { Parts } from './parts.ts';
import { type Component, partsOfRuntime } from './runtime-parts.ts';
import { type Contents, spdx } from './spdx.ts';
import { lib, root, runtimeLicence, type Tree } from './tree.ts';

type Listed = Contents['components'][number];

export const ofNpm = ({ name, version, license }: NpmPackage): Component => ({
  name,
  version,
  license,
  references: [{ type: 'purl', locator: `pkg:npm/${name.replace('@', '%40')}@${version}` }],
});

/** The npm packages that are in bundles, with the files of a package that contain them. @param place maps a file of dist/ to it */
export function bundledIn(files: readonly string[], place: (file: string) => string): Listed[] {
  const found = new Map<string, { readonly npm: NpmPackage; readonly files: string[] }>();
  for (const [file, packages] of bundled(root)) {
    if (!files.includes(place(file))) continue;
    for (const npm of packages) {
      const known = found.get(npm.name) ?? { npm, files: [] };
      known.files.push(place(file));
      found.set(npm.name, known);
    }
  }
  return [...found.values()].map((one) => ({ ...ofNpm(one.npm), files: one.files }));
}

function runtimeComponent({ runtime }: Parts): Listed {
  // Only the pinned Node.js runs this (scripts/node), and each architecture has the same one.
  if (process.version !== `v${runtime.version}`) throw new Error(`this is Node.js ${process.version}`);
  return {
    name: 'Node.js',
    version: runtime.version,
    license: 'MIT',
    references: [
      { type: 'purl', locator: `pkg:github/nodejs/node@v${runtime.version}` },
      { type: 'cpe23Type', locator: `cpe:2.3:a:nodejs:node.js:${runtime.version}:*:*:*:*:*:*:*` },
    ],
    files: [`${lib}/bin/node`],
    components: partsOfRuntime(process.versions, runtimeLicence().toString()),
  };
}

/** An ELF program without an interpreter (PT_INTERP) loads no libraries. Files of 64 bits and little-endian only. */
function isStatic(bytes: Buffer): boolean {
  const isElf = bytes.length > 64 && bytes.readUInt32BE(0) === 0x7f454c46;
  if (!isElf || bytes.readUInt16LE(16) === 3) return false;
  const [offset, size, count] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  return !Array.from({ length: count }, (_, index) => bytes.readUInt32LE(offset + index * size)).includes(3);
}

/** What the compiler links into programs that load no libraries. */
function linked(compiler: string, files: readonly string[]): Listed[] {
  if (files.length === 0) return [];
  const [program = 'cc', ...words] = compiler.split(/\s+/);
  const ask = (...options: string[]): string =>
    execFileSync(program, [...words, ...options], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const macros = new Map(
    [...ask('-E', '-dM', '-include', 'features.h', '-x', 'c', '/dev/null').matchAll(/^#define (\w+) (\S+)$/gm)].map(
      ([, name = '', value = '']) => [name, value],
    ),
  );
  const glibc = `${macros.get('__GLIBC__')}.${macros.get('__GLIBC_MINOR__')}`;
  const gcc = `${macros.get('__GNUC__')}.${macros.get('__GNUC_MINOR__')}.${macros.get('__GNUC_PATCHLEVEL__')}`;
  return [
    { name: 'glibc', version: glibc, license: 'LGPL-2.1-or-later', files },
    { name: 'libgcc', version: gcc, license: 'GPL-3.0-or-later WITH GCC-exception-3.1', files },
  ];
}

/** Writes the list of what is in the tree beside its documents. To be called when all other files are there. */
export function putContents(tree: Tree, parts: Parts, version: string, date: string): void {
  const excluded = 'usr/share/doc/virtlockd-node/virtlockd-node.spdx.json';
  const paths = tree.files().filter((file) => !file.startsWith('DEBIAN/'));
  const files = paths.map((file) => ({ path: file, bytes: fs.readFileSync(path.join(tree.directory, file)) }));
  const fsExt = `${lib}/node_modules/fs-ext`;
  const compiled = `${fsExt}/build/Release/fs_ext.node`;
  const components: Listed[] = [
    runtimeComponent(parts),
    { ...ofNpm(npmPackage(root, 'node_modules/fs-ext')), files: paths.filter((file) => file.startsWith(`${fsExt}/`)) },
    // Headers that fs-ext is compiled with.
    { ...ofNpm(npmPackage(root, 'node_modules/nan')), files: [compiled] },
    ...bundledIn(paths, (file) => `${lib}/dist/${file}`),
    ...linked(
      parts.compiler,
      files
        .filter(({ bytes }) => isStatic(bytes))
        .map((file) => file.path)
        .filter((file) => file !== `${lib}/bin/node`),
    ),
  ];
  const contents = { name: 'virtlockd-node', version, license: 'MIT', date: Number(date), files, components };
  tree.write(excluded, spdx({ ...contents, excluded: [excluded] }));
}
