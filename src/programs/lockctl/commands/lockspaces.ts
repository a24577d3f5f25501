/** `lockspace create|list`. */
import path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { lockProgram } from '../../../../xdr/programs/lock.ts';
import { FileState } from '../../../../xdr/programs/inquire.ts';
import { type Context, toBytes } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { fileState, json, name, nameJson, print, style, table } from '../output.ts';

export function addLockspaces(program: Command, context: Context): void {
  const command = program.command('lockspace').description('create and list lockspaces');

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
        file === FileState.SAME ? 'ok' : style('yellow', fileState(file)),
        directory === '' ? '(default: names are paths)' : name(directory),
      ]);
      print(table(['LOCKS', 'STATE', 'DIRECTORY'], rows));
    });
}

/**
 * A directory from the command line as libvirt spells it. To the daemon another spelling is another lockspace, which ignores
 * the locks of the first.
 */
export function lockspacePath(given: string): string {
  if (given === '') throw new InvalidArgumentError('It must be the path of a directory.');
  return path.resolve(given);
}

/** @throws CommandError when the daemon refuses */
export async function createLockspace(daemon: InquireClient, directory: string): Promise<void> {
  const args = { path: toBytes(directory) };
  await daemon.ask(async (client) => client.call(lockProgram, 'createLockspace', args), daemon.target.socket);
}
