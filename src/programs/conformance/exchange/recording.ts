/** Recorded transcripts of the C daemons, fixtures/exchanges/VERSION.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { installRoot } from '../../../posix/root.ts';
import { type Generation, generations } from '../../../lab/generation.ts';

export interface Recording {
  readonly provenance: {
    readonly libvirt: Generation;
    /** The Debian package the daemon came from, with its version. */
    readonly package: string;
    readonly command: string;
  };
  /** The version whose transcripts count for exchanges that are not listed here. */
  readonly like?: Generation;
  readonly exchanges: Readonly<Record<string, readonly string[]>>;
}

/** Every version, with the one that its recording is based on. */
export const recorded: ReadonlyMap<Generation, Generation | undefined> = new Map([
  ['9.0.0', undefined],
  ['7.0.0', '9.0.0'],
  ['11.3.0', '9.0.0'],
  ['12.8.0', '11.3.0'],
]);

export function recordingPath(version: Generation): string {
  return join(installRoot, 'fixtures/exchanges', `${version}.json`);
}

/** The file with the right transcripts, by version, of exchanges in which C is wrong. */
export const rightPath = join(installRoot, 'fixtures/exchanges/right.json');

export function readRecording(version: Generation): Recording {
  return JSON.parse(readFileSync(recordingPath(version), 'utf8')) as Recording;
}

/** All transcripts of one version, by the name of the exchange. */
export function readTranscripts(version: Generation): Map<string, readonly string[]> {
  const { like, exchanges } = readRecording(version);
  if (like !== undefined && !generations.includes(like))
    throw new Error(`${version}: like ${like}, which is not recorded`);
  const transcripts = like === undefined ? new Map<string, readonly string[]>() : readTranscripts(like);
  for (const [name, lines] of Object.entries(exchanges)) transcripts.set(name, lines);
  return transcripts;
}

/** The right transcripts of exchanges in which the C daemon of that version is wrong: those of this project's daemon. */
export function readRight(version: Generation): Readonly<Record<string, readonly string[]>> {
  const all = JSON.parse(readFileSync(rightPath, 'utf8')) as Record<Generation, Record<string, string[]>>;
  return all[version];
}
