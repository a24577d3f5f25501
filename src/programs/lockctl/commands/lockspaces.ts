/** `lockspace create|list`. */
import path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { lockProgram } from '../../../../xdr/programs/lock.ts';
import { FileState } from '../../../../xdr/programs/inquire.ts';
import { type Context, toBytes } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { fileState, json, name, nameJson, print, style, table } from '../output.ts';

export function addLockspaces(program: Command, context: Context): void {
  const command = program.command('lockspace').description('make and list lockspaces');

  command
    .command('create')
    .description('make a lockspace known to the daemon, and its directory if that is missing')
    .argument('<directory>', 'its path: for a <lease>, TARGET/LOCKSPACE', lockspacePath)
    .addHelpText(
      'after',
      '\nOne that exists already is fine. Works with a C daemon, too. The daemon forgets lockspaces when it ends.',
    )
    .action(async (directory: string) => {
      await createLockspace(context.daemon(), directory);
      print(`Lockspace ${name(toBytes(directory))} is there.`);
    });

  command
    .command('list')
    .description('list the lockspaces that the daemon knows')
    .option('--json', 'one JSON array')
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
        file === FileState.SAME ? 'ok' : style('yellow', fileState(file)),
        directory === '' ? '(default: names are paths)' : name(directory),
      ]);
      print(table(['LOCKS', 'STATE', 'DIRECTORY'], rows));
    });
}

/**
 * A directory from the command line as libvirt names it: the daemon knows a lockspace by its exact spelling, and another
 * one of the same directory would be another lockspace, which does not see what is held in the first.
 */
export function lockspacePath(given: string): string {
  if (given === '') throw new InvalidArgumentError('It is the path of a directory.');
  return path.resolve(given);
}

/** @throws CommandError when the daemon refuses */
export async function createLockspace(daemon: InquireClient, directory: string): Promise<void> {
  const client = await daemon.lockClient();
  try {
    await client.call(lockProgram, 'createLockspace', { path: toBytes(directory) });
  } catch (error) {
    throw await daemon.explain(error);
  }
}
