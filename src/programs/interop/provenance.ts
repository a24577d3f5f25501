/** The packages and programs of a row or a column. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { packageVersion } from '../../lab/command-line.ts';
import type { DaemonKind, Generation } from '../../lab/generation.ts';
import { missingLab } from '../../lab/requirements.ts';
import { checkout, openLab } from '../../lab/trees.ts';
import { type Column, type Family, partsOf } from './model.ts';

const wanted = ['libvirt-daemon', 'libvirt-daemon-lock', 'libvirt-daemon-common', 'libvirt-clients', 'qemu-system-x86'];
const known = new Map<Generation, Promise<ReadonlyMap<string, string>>>();

async function ask(generation: Generation): Promise<ReadonlyMap<string, string>> {
  if (missingLab(generation) !== undefined) return new Map();
  const lab = await openLab(generation);
  try {
    const { stdout } = await lab.run('/usr/bin/dpkg-query', [
      '--show',
      '--showformat=${Package} ${Version}\\n',
      ...wanted,
    ]);
    const lines = stdout.split('\n').filter((line) => line !== '');
    return new Map(lines.map((line) => line.split(' ', 2) as [string, string]));
  } finally {
    await lab.close();
  }
}

/** Versions of the installed packages of a release, by name. */
async function packagesOf(generation: Generation): Promise<ReadonlyMap<string, string>> {
  const asked = known.get(generation) ?? ask(generation);
  known.set(generation, asked);
  return asked;
}

/** A hash of files, and of all files below directories; a missing file counts as missing. */
function hashOf(...paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths.map((name) => join(checkout, name))) {
    const inside = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
    const names = inside ? readdirSync(path, { recursive: true, encoding: 'utf8' }).sort() : [''];
    for (const name of names) {
      const file = join(path, name);
      if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) hash.update(name).update(readFileSync(file));
      else hash.update(`${name} is no file`);
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** The sources of the checks of a column. */
const sources: Readonly<Record<Family, readonly string[]>> = {
  conformance: ['src/programs/conformance', 'fixtures/exchanges'],
  libvirtd: ['guests.ts', 'guest-checks.ts', 'scene.ts'].map((name) => `src/programs/interop/${name}`),
  'virt-admin': ['src/programs/interop/admin.ts', 'src/programs/interop/virt-admin.ts'],
};

/** The daemon of a row with its version. */
export async function daemonOf(row: DaemonKind): Promise<string> {
  if (row === 'ours') return `virtlockd ${packageVersion()}`;
  const packages = await packagesOf(row);
  const name = packages.has('libvirt-daemon-lock') ? 'libvirt-daemon-lock' : 'libvirt-daemon';
  return `${name} ${packages.get(name) ?? 'not installed'}`;
}

/** The client of a column with its version. */
export async function askerOf(column: Column): Promise<string> {
  const { family, generation } = partsOf(column);
  if (generation === undefined) return `virtlockd-conformance ${packageVersion()}`;
  const packages = await packagesOf(generation);
  const names =
    family === 'libvirtd'
      ? ['libvirt-daemon', 'qemu-system-x86']
      : [packages.has('libvirt-daemon-common') ? 'libvirt-daemon-common' : 'libvirt-clients'];
  return names.map((name) => `${name} ${packages.get(name) ?? 'not installed'}`).join(', ');
}

/** Both sides of a cell, with hashes: while they stay the same, so does its result. */
export async function sidesOf(row: DaemonKind, column: Column): Promise<string[]> {
  const own = row === 'ours' ? ` ${hashOf('dist/virtlockd.cjs', 'dist/posix.node', 'dist/guard.so')}` : '';
  return [(await daemonOf(row)) + own, `${await askerOf(column)} ${hashOf(...sources[partsOf(column).family])}`];
}
