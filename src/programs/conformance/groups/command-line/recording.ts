/** The recorded starts of the C daemons, fixtures/cli/VERSION.json. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { installRoot } from '../../../../posix/root.ts';
import type { Generation } from '../../../../lab/generation.ts';

export interface CliRecording {
  readonly provenance: { readonly libvirt: Generation; readonly package: string; readonly command: string };
  /** The version whose outcomes count for cases that are not listed here. */
  readonly like?: Generation;
  /** By the name of the case. */
  readonly outcomes: Readonly<Record<string, readonly string[]>>;
}

export function cliRecordingPath(version: Generation): string {
  return join(installRoot, 'fixtures/cli', `${version}.json`);
}

/** The outcomes of that version by the name of the case; none where it was not recorded. */
export function readOutcomes(version: Generation): Map<string, readonly string[]> {
  const path = cliRecordingPath(version);
  if (!existsSync(path)) return new Map();
  const { like, outcomes } = JSON.parse(readFileSync(path, 'utf8')) as CliRecording;
  const all = like === undefined ? new Map<string, readonly string[]>() : readOutcomes(like);
  for (const [name, lines] of Object.entries(outcomes)) all.set(name, lines);
  return all;
}
