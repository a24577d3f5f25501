/** Which packages and programs stand behind a row or a column. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DaemonKind, type Generation, missingLab } from '../../test/lab/requirements.ts';
import { Lab, checkout } from '../../test/lab/root.ts';
import { type Column, partsOf } from './model.ts';

const wanted = ['libvirt-daemon', 'libvirt-daemon-lock', 'libvirt-daemon-common', 'libvirt-clients', 'qemu-system-x86'];
const known = new Map<Generation, Promise<ReadonlyMap<string, string>>>();

async function ask(generation: Generation): Promise<ReadonlyMap<string, string>> {
  if (missingLab(generation) !== undefined) return new Map();
  const lab = await Lab.open(generation);
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

/** Versions of the packages of a release that are installed, by name. */
export async function packagesOf(generation: Generation): Promise<ReadonlyMap<string, string>> {
  const asked = known.get(generation) ?? ask(generation);
  known.set(generation, asked);
  return asked;
}

const hashOf = (file: string): string => {
  try {
    return createHash('sha256')
      .update(readFileSync(join(checkout, file)))
      .digest('hex')
      .slice(0, 16);
  } catch {
    return 'missing';
  }
};

const version = (): string =>
  (JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string }).version;

/** What the daemon of a row is, for readers. */
export async function daemonOf(row: DaemonKind): Promise<string> {
  if (row === 'ours') return `virtlockd ${version()}`;
  const packages = await packagesOf(row);
  const name = packages.has('libvirt-daemon-lock') ? 'libvirt-daemon-lock' : 'libvirt-daemon';
  return `${name} ${packages.get(name) ?? 'not installed'}`;
}

/** What asks in a column, for readers. */
export async function askerOf(column: Column): Promise<string> {
  const { family, generation } = partsOf(column);
  if (generation === undefined) return `virtlockd-conformance ${version()}`;
  const packages = await packagesOf(generation);
  const names =
    family === 'libvirtd'
      ? ['libvirt-daemon', 'qemu-system-x86']
      : [packages.has('libvirt-daemon-common') ? 'libvirt-daemon-common' : 'libvirt-clients'];
  return names.map((name) => `${name} ${packages.get(name) ?? 'not installed'}`).join(', ');
}

/** Both sides of a cell, such that nothing can change in a cell while they stay the same. */
export async function sidesOf(row: DaemonKind, column: Column): Promise<string[]> {
  const own = row === 'ours' ? ` ${hashOf('dist/virtlockd.cjs')} ${hashOf('dist/posix.node')}` : '';
  return [(await daemonOf(row)) + own, await askerOf(column)];
}
