/**
 * Records what the C daemons do when they are started in every way: fixtures/cli/VERSION.json, for every version that is
 * installed here or has a tree (scripts/lab.sh).
 *
 *   npm run fixtures:cli [VERSION...]
 */
import { writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Generation } from '../src/conformance/generation.ts';
import { cliCases } from '../src/conformance/groups/command-line/cases.ts';
import { type CliRecording, cliRecordingPath, readOutcomes } from '../src/conformance/groups/command-line/recording.ts';
import { Starter } from '../src/conformance/groups/command-line/starter.ts';
import { recorded } from '../src/conformance/exchange/recording.ts';
import { missingDaemon } from '../test/lab/requirements.ts';
import { Lab } from '../test/lab/root.ts';

async function packageOf(lab: Lab): Promise<string> {
  const owner = await lab.run('/usr/bin/dpkg', ['-S', '/usr/sbin/virtlockd']);
  const name = owner.stdout.split(':')[0] ?? '';
  const { stdout } = await lab.run('/usr/bin/dpkg-query', ['--show', '--showformat=${Package} ${Version}', name]);
  return stdout;
}

async function record(version: Generation, like: Generation | undefined): Promise<CliRecording> {
  const lab = await Lab.open(version);
  const before = like === undefined ? new Map<string, readonly string[]>() : readOutcomes(like);
  const outcomes: Record<string, readonly string[]> = {};
  try {
    const provenance = { libvirt: version, package: await packageOf(lab), command: 'npm run fixtures:cli' };
    const starter = new Starter(lab, '/usr/sbin/virtlockd', '');
    for (const one of cliCases) {
      const lines = await starter.run(one);
      if (!isDeepStrictEqual(lines, before.get(one.name))) outcomes[one.name] = lines;
    }
    return { provenance, ...(like === undefined ? {} : { like }), outcomes };
  } finally {
    await lab.close();
  }
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
  writeFileSync(cliRecordingPath(version), `${JSON.stringify(recording, undefined, 1)}\n`);
  console.log(`${version}: ${Object.keys(recording.outcomes).length} outcomes written`);
}
