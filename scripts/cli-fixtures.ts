/**
 * Records how the C daemons react to command lines: fixtures/cli/VERSION.json, for every version that is installed here or has
 * a tree (scripts/lab.sh).
 *
 *   npm run fixtures:cli [VERSION...]
 */
import { isDeepStrictEqual } from 'node:util';
import type { Generation } from '../src/lab/generation.ts';
import { cliCases } from '../src/programs/conformance/groups/command-line/cases.ts';
import {
  type CliRecording,
  cliRecordingPath,
  readOutcomes,
} from '../src/programs/conformance/groups/command-line/recording.ts';
import { Starter } from '../src/programs/conformance/groups/command-line/starter.ts';
import { openLab } from '../src/lab/trees.ts';
import { PROGRAM } from '../src/libvirt/paths.ts';
import { packageOf, recordVersions, writeRecording } from './recording.ts';

async function record(version: Generation, like: Generation | undefined): Promise<CliRecording> {
  const lab = await openLab(version);
  const before = like === undefined ? new Map<string, readonly string[]>() : readOutcomes(like);
  const outcomes: Record<string, readonly string[]> = {};
  try {
    const provenance = { libvirt: version, package: await packageOf(lab), command: 'npm run fixtures:cli' };
    const starter = new Starter(lab, PROGRAM, '');
    for (const one of cliCases) {
      const lines = await starter.run(one);
      if (!isDeepStrictEqual(lines, before.get(one.name))) outcomes[one.name] = lines;
    }
    return { provenance, ...(like === undefined ? {} : { like }), outcomes };
  } finally {
    await lab.close();
  }
}

await recordVersions(process.argv.slice(2), async (version, like) => {
  const recording = await record(version, like);
  writeRecording(cliRecordingPath(version), recording);
  return `${Object.keys(recording.outcomes).length} outcomes`;
});
