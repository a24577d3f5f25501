/** Shared by the scripts that record C daemons. */
import { writeFileSync } from 'node:fs';
import { recorded } from '../src/programs/conformance/exchange/recording.ts';
import type { Generation } from '../src/lab/generation.ts';
import { missingDaemon } from '../src/lab/requirements.ts';
import type { Lab } from '../src/lab/root.ts';
import { PROGRAM } from '../src/libvirt/paths.ts';

/** The Debian package of the lab's lock daemon, with its version. */
export async function packageOf(lab: Lab): Promise<string> {
  const owner = await lab.run('/usr/bin/dpkg', ['-S', PROGRAM]);
  const name = owner.stdout.split(':')[0] ?? '';
  const { stdout } = await lab.run('/usr/bin/dpkg-query', ['--show', '--showformat=${Package} ${Version}', name]);
  return stdout;
}

export function writeRecording(path: string, recording: object): void {
  writeFileSync(path, `${JSON.stringify(recording, undefined, 1)}\n`);
}

/**
 * Records every wanted version that is available here, and reports the others.
 *
 * @param wanted versions; none means all
 * @param record records a version as the difference to `like`, writes the file, and returns a summary
 */
export async function recordVersions(
  wanted: readonly string[],
  record: (version: Generation, like: Generation | undefined) => Promise<string>,
): Promise<void> {
  for (const [version, like] of recorded) {
    if (wanted.length > 0 && !wanted.includes(version)) continue;
    const missing = missingDaemon(version);
    if (missing !== undefined) console.log(`${version}: not recorded: ${missing}`);
    else console.log(`${version}: ${await record(version, like)} written`);
  }
}
