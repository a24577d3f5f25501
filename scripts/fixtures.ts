/**
 * Records the answers of the C daemons to the exchanges of src/programs/conformance: fixtures/exchanges/VERSION.json, for
 * every version that is installed here or has a tree (scripts/lab.sh). The same daemon gives the same bytes each time.
 * `right` records this project's deliberate differences: fixtures/exchanges/right.json.
 *
 *   npm run fixtures [VERSION | right]...
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Generation, generations } from '../src/lab/generation.ts';
import { missingDaemon } from '../src/lab/requirements.ts';
import { openLab } from '../src/lab/trees.ts';
import { exchanges } from '../src/programs/conformance/exchanges.ts';
import {
  type Recording,
  readTranscripts,
  recordingPath,
  rightPath,
} from '../src/programs/conformance/exchange/recording.ts';
import { openTarget } from '../test/wire/programs/conformance/target.ts';
import { packageOf, recordVersions, writeRecording } from './recording.ts';

async function record(version: Generation, like: Generation | undefined): Promise<Recording> {
  const target = await openTarget(version, version);
  const before = like === undefined ? new Map<string, readonly string[]>() : readTranscripts(like);
  const transcripts: Record<string, readonly string[]> = {};
  try {
    for (const exchange of exchanges) {
      const lines = await target.play(exchange);
      if (!isDeepStrictEqual(lines, before.get(exchange.name))) transcripts[exchange.name] = lines;
    }
  } finally {
    await target.close();
  }
  const lab = await openLab(version);
  const provenance = { libvirt: version, package: await packageOf(lab), command: 'npm run fixtures' };
  await lab.close();
  return { provenance, ...(like === undefined ? {} : { like }), exchanges: transcripts };
}

async function recordRight(): Promise<void> {
  const all: Partial<Record<Generation, Record<string, readonly string[]>>> = {};
  for (const version of generations) {
    const target = await openTarget('ours', version);
    const transcripts: Record<string, readonly string[]> = {};
    try {
      for (const exchange of exchanges) {
        if (exchange.defect !== undefined) transcripts[exchange.name] = await target.play(exchange);
      }
    } finally {
      await target.close();
    }
    all[version] = transcripts;
  }
  writeRecording(rightPath, all);
  console.log('right: written');
}

const wanted = process.argv.slice(2);
await recordVersions(wanted, async (version, like) => {
  const recording = await record(version, like);
  const path = recordingPath(version);
  mkdirSync(dirname(path), { recursive: true });
  writeRecording(path, recording);
  return `${Object.keys(recording.exchanges).length} exchanges`;
});

if (wanted.length === 0 || wanted.includes('right')) {
  const missing = missingDaemon('ours');
  if (missing === undefined) await recordRight();
  else console.log(`right: not recorded: ${missing}`);
}
