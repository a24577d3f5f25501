/** `lockspace create|list`. */
import type { Command } from 'commander';
import { lockProgram } from '../../../xdr/programs/lock.ts';
import { FileState } from '../../../xdr/programs/inquire.ts';
import { type Context, toBytes } from '../context.ts';
import { type Daemon, explain } from '../daemon.ts';
import { CommandError, Exit } from '../exit.ts';
import { fileState, json, name, print, style, table } from '../output.ts';

export function addLockspaces(program: Command, context: Context): void {
  const command = program.command('lockspace').description('make and list lockspaces');

  command
    .command('create')
    .description('make a lockspace known to the daemon, and its directory if that is missing')
    .argument('<directory>', 'its absolute path: for a <lease>, TARGET/LOCKSPACE')
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
          directory: name(directory),
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

/** @throws CommandError when the daemon refuses */
export async function createLockspace(daemon: Daemon, directory: string): Promise<void> {
  if (!directory.startsWith('/')) {
    throw new CommandError(
      Exit.USAGE,
      `a lockspace is known by its exact path, which must be absolute: '${directory}'`,
    );
  }
  const client = await daemon.lockClient();
  try {
    await client.call(lockProgram, 'createLockspace', { path: toBytes(directory) });
  } catch (error) {
    throw explain(error, daemon.target.name);
  }
}
