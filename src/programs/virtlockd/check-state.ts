/** `--check-state`: the successor's part of a proof, in a child of the daemon. See successor.ts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { EXIT } from '../../libvirt/exit.ts';
import { programFiles } from './program-files.ts';
import { inodeOf } from '../../lockspace/files.ts';
import { bytesOf, toPath } from '../../posix/bytes.ts';
import { posix } from '../../posix/posix.ts';
import { installRoot } from '../../posix/root.ts';
import { DEFAULT_VERSION_NUMBER } from '../../libvirt/dialect.ts';
import { CHECK_BANNER, CHECK_FAILED, formatAnswer, KNOWN_LOCKS, wantsReport } from '../../restart/answers.ts';
import { whatWasLoaded } from '../../restart/build.ts';
import { prepareCloseOnExec } from '../../restart/close-on-exec.ts';
import type { StateDocument } from '../../restart/document.ts';
import { parseDocument, parseJson, parseProvenJson } from '../../restart/parse.ts';
import { DocumentError } from '../../state/state.ts';
import { type Loss, rehearse } from '../../restart/rehearse.ts';

/** Prints the verdict on a state document. Returns the exit status. */
export function checkState(file: ByteString): number {
  try {
    if (!posix.isGuarded())
      throw new Error('dist/guard.so was not loaded: any signal could end the program at its start');
    const loaded = whatWasLoaded();
    const [complaint] = loaded?.complaints ?? [];
    if (complaint !== undefined) throw new Error(complaint);
    prepareCloseOnExec();
    const losses = rehearseFile(file);
    const launch = join(installRoot, 'dist', 'launch');
    const command = [launch, process.execPath, ...process.execArgv, ...process.argv.slice(1, 2)];
    // A daemon that is older than builds would take the report for a part of the command.
    const report = wantsReport()
      ? {
          identities: loaded?.identities ?? {},
          losses,
          locks: KNOWN_LOCKS,
          storage: true as const,
          etcd: true as const,
        }
      : undefined;
    process.stdout.write(`${CHECK_BANNER}\n${formatAnswer(command, report)}`);
    return EXIT.ok;
  } catch (error) {
    const reason = bytesOf(error instanceof Error ? error.message : String(error));
    const text = `${CHECK_BANNER}\n${error instanceof DocumentError ? `${file}: ` : ''}${reason}\n`;
    process.stdout.write(text, 'latin1');
    return CHECK_FAILED;
  }
}

function rehearseFile(file: ByteString): Loss[] {
  const bytes = readFileSync(toPath(file));
  const document = parseDocument(parseJson(bytes));
  refuseHeldProgram(document.lockspaces);
  // Only for its parent: another process may have the pid of the writer by now.
  if (document.magic !== String(process.ppid)) return [];
  // Read as the successor reads it, for comparison.
  const taken = parseDocument(parseProvenJson(bytes));
  return rehearse(document, taken, process.ppid, DEFAULT_VERSION_NUMBER);
}

/** @throws DocumentError if a held resource is a file that this program opens and closes at its start */
function refuseHeldProgram(lockspaces: StateDocument['lockspaces']): void {
  const own = new Map(programFiles().map((file) => [inodeOf(file), file]));
  for (const { resources } of lockspaces) {
    for (const { 'x-inode': inode = '' } of resources) {
      const file = own.get(inode);
      if (file !== undefined)
        throw new DocumentError(`${file} is held as a resource, and opening it would drop the lock`);
    }
  }
}
