/**
 * Records what the C daemons answer to the exchanges of test/wire: fixtures/exchanges/VERSION.json, for every version that is
 * installed here or has a tree (scripts/lab.sh). Recording the same daemon again gives the same bytes.
 *
 *   npm run fixtures [VERSION...]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Generation, missingDaemon } from '../test/lab/requirements.ts';
import { Lab } from '../test/lab/root.ts';
import { exchanges } from '../test/wire/exchanges.ts';
import { type Recording, readTranscripts, recorded, recordingPath } from '../test/wire/recording.ts';
import { WireTarget } from '../test/wire/target.ts';

async function packageOf(version: Generation): Promise<string> {
  const lab = await Lab.open(version);
  try {
    const owner = await lab.run('/usr/bin/dpkg', ['-S', '/usr/sbin/virtlockd']);
    const name = owner.stdout.split(':')[0] ?? '';
    const { stdout } = await lab.run('/usr/bin/dpkg-query', ['--show', '--showformat=${Package} ${Version}', name]);
    return stdout;
  } finally {
    await lab.close();
  }
}

async function record(version: Generation, like: Generation | undefined): Promise<Recording> {
  const target = await WireTarget.open(version, version);
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
  const provenance = { libvirt: version, package: await packageOf(version), command: 'npm run fixtures' };
  return { provenance, ...(like === undefined ? {} : { like }), exchanges: transcripts };
}

const wanted = process.argv.slice(2);
for (const [version, like] of recorded) {
  if (wanted.length > 0 && !wanted.includes(version)) continue;
  const missing = missingDaemon(version);
  if (missing !== undefined) {
    console.log(`${version}: not recorded: ${missing}`);
    continue;
  }
  const recording = await record(version, like);
  const path = recordingPath(version);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(recording, undefined, 1)}\n`);
  console.log(`${version}: ${Object.keys(recording.exchanges).length} exchanges written`);
}
