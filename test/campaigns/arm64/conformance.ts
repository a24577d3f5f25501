/**
 * The checks of virtlockd-conformance against daemons for arm64: installed by dpkg in a copy of the tree, each run by QEMU's user mode,
 * which translates its system calls into those of this machine's kernel.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Verdict } from '../../../src/programs/conformance/check.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { withForeignPrograms } from './foreign.ts';
import { armTree } from './package.ts';

/** The lock daemons of the tree once the package is installed, by their programs. */
export const daemons = { own: '/usr/sbin/virtlockd', libvirt: '/usr/sbin/virtlockd.libvirt' } as const;
export type Daemon = keyof typeof daemons;
export const daemonNames = Object.keys(daemons) as Daemon[];

export interface CheckResult {
  readonly name: string;
  readonly verdict: Verdict;
}

export interface Checked {
  readonly installed: string;
  /** None of a daemon that was not checked. */
  readonly results: Readonly<Record<Daemon, readonly CheckResult[]>>;
}

/** Which checks, and of which daemons. */
export interface Wanted {
  readonly only: readonly string[];
  readonly daemons: readonly Daemon[];
}

/** @throws Error when the package cannot be installed, or the checks cannot be run */
export async function checkConformance(
  packaged: string,
  wanted: Wanted,
  signal: AbortSignal,
  onProgress: (line: string) => void,
): Promise<Checked> {
  return withForeignPrograms(async () => makeChecks(packaged, wanted, signal, onProgress));
}

async function makeChecks(
  packaged: string,
  { only, daemons: names }: Wanted,
  signal: AbortSignal,
  onProgress: (line: string) => void,
): Promise<Checked> {
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-arm64-'));
  try {
    const script = join(import.meta.dirname, 'conformance.sh');
    const runs = names.map((name) => `${name}=${daemons[name]}`);
    const words = ['--mount', '--propagation', 'private', '/bin/sh', script, armTree, directory, packaged, checkout];
    const child = spawn('unshare', [...words, runs.join(' '), ...only.flatMap((word) => ['--only', word])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        output += data.toString();
        onProgress(data.toString());
      });
    }
    const [status] = (await once(child, 'close')) as [number | null];
    if (status !== 0) throw new Error(`the checks were not run: ${output.slice(-4000)}`);
    const resultsOf = (name: Daemon): CheckResult[] => {
      if (!names.includes(name)) return [];
      return (JSON.parse(readFileSync(join(directory, `${name}.json`), 'utf8')) as { results: CheckResult[] }).results;
    };
    return {
      installed: readFileSync(join(directory, 'installed'), 'utf8'),
      results: { own: resultsOf('own'), libvirt: resultsOf('libvirt') },
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const namesOf = (results: readonly CheckResult[], verdict: Verdict): string[] =>
  results.flatMap((result) => (result.verdict === verdict ? [result.name] : []));

/** Checks that fail with this daemon and not with libvirt's. */
export function compare({ results: { own, libvirt } }: Pick<Checked, 'results'>): string[] {
  const broken = new Set(namesOf(libvirt, 'fail'));
  return namesOf(own, 'fail').filter((name) => !broken.has(name));
}

/** How many checks ended in each way. */
export function countsOf(results: readonly CheckResult[]): string {
  const counts = new Map<string, number>();
  for (const { verdict } of results) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  return [...counts].map(([verdict, count]) => `${count} ${verdict}`).join(', ');
}
