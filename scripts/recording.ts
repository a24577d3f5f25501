/** What the scripts share that record C daemons: which versions, and where their programs come from. */
import { writeFileSync } from 'node:fs';
import { recorded } from '../src/programs/conformance/exchange/recording.ts';
import type { Generation } from '../src/lab/generation.ts';
import { missingDaemon } from '../src/lab/requirements.ts';
import type { Lab } from '../src/lab/root.ts';

/** The Debian package of the lab's lock daemon, with its version. */
export async function packageOf(lab: Lab): Promise<string> {
  const owner = await lab.run('/usr/bin/dpkg', ['-S', '/usr/sbin/virtlockd']);
  const name = owner.stdout.split(':')[0] ?? '';
  const { stdout } = await lab.run('/usr/bin/dpkg-query', ['--show', '--showformat=${Package} ${Version}', name]);
  return stdout;
}

export function writeRecording(path: string, recording: object): void {
  writeFileSync(path, `${JSON.stringify(recording, undefined, 1)}\n`);
}

/**
 * Records every version that is wanted and here, and says which are not.
 *
 * @param wanted versions; all when there are none
 * @param record records one beside the version it is compared with, writes the file, and returns what it has written
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
