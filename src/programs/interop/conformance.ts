/** A cell of the conformance columns: one group of bin/virtlockd-conformance, as a program of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Group, Result } from '../conformance/check.ts';
import { programOf } from '../../lab/start.ts';
import { type DaemonKind, type Generation, generations } from '../../lab/generation.ts';
import { missingDaemon } from '../../lab/requirements.ts';
import { treeOf, checkout, ownDirectories } from '../../lab/trees.ts';
import type { Check } from './model.ts';

const program = join(checkout, 'bin/virtlockd-conformance');

/** Runs the group once. @throws Error with the program's message when it could not run */
async function play(
  kind: DaemonKind,
  group: Group,
  dialect: readonly string[],
  signal: AbortSignal,
): Promise<Result[]> {
  const directory = await mkdtemp(join(tmpdir(), 'virtlockd-interop-'));
  try {
    const json = join(directory, 'report.json');
    const place = kind === 'ours' ? ownDirectories.flatMap((d) => ['--share', d]) : ['--root-of', treeOf(kind)];
    const args = ['--only', `${group}/*`, '--json', json, '--quiet', ...dialect, ...place, '--', programOf(kind)];
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.on('data', (data: Buffer) => (complaint += data.toString()));
    const stop = (): void => void child.kill();
    signal.addEventListener('abort', stop);
    const [code] = (await once(child, 'close')) as [number | null];
    signal.removeEventListener('abort', stop);
    signal.throwIfAborted();
    if (code !== 0 && code !== 1) throw new Error(complaint.trim());
    return (JSON.parse(readFileSync(json, 'utf8')) as { results: Result[] }).results;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function toCheck(result: Result, suffix: string): Check {
  const { name, promise, verdict, detail, known, expected, seen } = result;
  if (verdict === 'pass') return { name: name + suffix, promise, verdict };
  return {
    name: name + suffix,
    promise,
    verdict,
    ...(verdict === 'fail' ? { seen } : {}),
    ...(verdict === 'fail' && expected !== undefined ? { expected } : {}),
    ...(detail === undefined ? {} : { detail }),
    ...(known === undefined ? {} : { known }),
  };
}

/**
 * The dialects in which this project's daemon is checked. Its start has no dialect: with a bad log setting 7.0.0 starts, but
 * later releases and this daemon refuse to.
 */
const dialectsOf = (group: Group): readonly Generation[] =>
  generations.filter((generation) => group !== 'command-line' || generation !== '7.0.0');

/**
 * This project's daemon is checked in the dialect of each release, a C daemon in its own.
 * @throws Error when the group cannot be run
 */
export async function conformanceCell(
  kind: DaemonKind,
  group: Group,
  progress: (step: string) => void,
  signal: AbortSignal,
): Promise<Check[]> {
  const missing = missingDaemon(kind);
  if (missing !== undefined) throw new Error(missing);
  if (kind !== 'ours') return (await play(kind, group, [], signal)).map((result) => toCheck(result, ''));
  const checks: Check[] = [];
  for (const generation of dialectsOf(group)) {
    progress(`as ${generation}`);
    const results = await play(kind, group, ['--dialect', generation], signal);
    checks.push(...results.map((result) => toCheck(result, ` (as ${generation})`)));
  }
  return checks;
}
