/** `lockspace create|list`. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { lockProgram } from '../../../../xdr/programs/lock.ts';
import { FileState } from '../../../../xdr/programs/inquire.ts';
import { type Context, toBytes, toPath } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { fileState, isSound, json, name, nameJson, print, style, table } from '../output.ts';
import { addLockspaceTest } from './lockspace-test.ts';

export function addLockspaces(program: Command, context: Context): void {
  const command = program.command('lockspace').description('create, list and test lockspaces');

  command
    .command('create')
    .description('create a lockspace in the daemon, and its directory if that is missing')
    .argument('<directory>', 'its path: for a <lease>, TARGET/LOCKSPACE', lockspacePath)
    .addHelpText('after', '\nSucceeds if the lockspace exists. The daemon forgets lockspaces when it ends.')
    .action(async (directory: string) => {
      await createLockspace(context.daemon(), directory);
      print(`Lockspace ${name(toBytes(directory))} exists.`);
    });

  command
    .command('list')
    .description('list the lockspaces that the daemon knows')
    .option('--json', 'print a JSON array')
    .action(async (options: { json?: true }) => {
      const lockspaces = await context.daemon().lockspaces();
      if (options.json === true) {
        const rows = lockspaces.map(({ directory, locks, file }) => ({
          ...nameJson('directory', directory),
          isDefault: directory === '',
          locks,
          state: fileState(file),
        }));
        print(json(rows, 2));
        return;
      }
      const rows = lockspaces.map(({ directory, locks, file }) => [
        String(locks),
        file === FileState.SAME ? 'ok' : isSound(file) ? fileState(file) : style('yellow', fileState(file)),
        directory === '' ? '(default: names are paths)' : name(directory),
      ]);
      print(table(['LOCKS', 'STATE', 'DIRECTORY'], rows));
    });

  addLockspaceTest(command, context);
}

/**
 * A directory from the command line as libvirt spells it. To the daemon another spelling is another lockspace, which ignores
 * the locks of the first.
 */
export function lockspacePath(given: string): string {
  if (given === '') throw new InvalidArgumentError('It must be the path of a directory.');
  return path.resolve(given);
}

/**
 * Creates it in the daemon, and its directory. A daemon that knows the lockspace does not look for the directory, which may be gone.
 *
 * @throws CommandError when the daemon refuses, or the directory cannot be made
 */
export async function createLockspace(daemon: InquireClient, directory: string): Promise<void> {
  const path = toBytes(directory);
  const known = (await daemon.answersInquiries())
    ? (await daemon.lockspaces()).find((lockspace) => lockspace.directory === path)
    : undefined;
  await daemon.ask(async (client) => client.call(lockProgram, 'createLockspace', { path }), daemon.target.socket);
  if (known?.file === FileState.GONE) makeDirectory(path);
  else if (known?.file === FileState.REPLACED) {
    throw new CommandError(Exit.NO, `${name(path)} is no directory: no lock can be acquired in this lockspace`);
  }
}

/** As the daemon makes a lockspace's directory. */
const DIRECTORY_MODE = 0o700;

function makeDirectory(path: ByteString): void {
  try {
    mkdirSync(toPath(path), { recursive: true, mode: DIRECTORY_MODE });
  } catch (error) {
    throw new CommandError(
      Exit.NO,
      `the directory ${name(path)} is gone, and cannot be made: ${(error as Error).message}`,
    );
  }
}
