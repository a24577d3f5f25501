/** The command line of virt-lockctl, which help, completion and the manual page describe as well. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { installRoot } from '../../posix/root.ts';
import { addCheck } from './commands/check.ts';
import { addClients } from './commands/clients.ts';
import { addLeases } from './commands/leases.ts';
import { addList } from './commands/list.ts';
import { addLockspaces } from './commands/lockspaces.ts';
import { addMetrics } from './commands/metrics.ts';
import { addRefusals } from './commands/refusals.ts';
import { addServe } from './commands/serve.ts';
import { addStatus } from './commands/status.ts';
import { addSwap } from './commands/swap.ts';
import { addWatch } from './commands/watch.ts';
import { addWho } from './commands/who.ts';
import { addWhy } from './commands/why.ts';
import type { Context } from './context.ts';
import { notEmpty } from './not-empty.ts';
import { printError, printText } from './output.ts';

function version(): string {
  try {
    const { version: found } = JSON.parse(readFileSync(`${installRoot}/package.json`, 'utf8')) as { version?: string };
    return found ?? 'unknown';
  } catch {
    return 'unknown';
  }
}

const EXIT_HELP = `
Exit status:
  0  done, found, or all is well
  1  not found, refused, or a check has findings
  2  wrong command line
  3  no daemon answers
  4  the daemon does not answer inquiries: it is libvirt's C virtlockd
  5  access denied`;

export function buildProgram(context: Context): Command {
  const program = new Command('virt-lockctl')
    .description('Asks the lock daemon of libvirt guests who holds what, and looks after it.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .option(
      '-c, --connect <daemon>',
      "virtlockd:///system, virtlockd:///session, or the path of a socket or of its directory (default: the system's for root, else the session's)",
      notEmpty('--connect'),
    )
    .addHelpText('after', EXIT_HELP)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeOut: printText, writeErr: printError })
    .configureHelp({ showGlobalOptions: true });
  for (const add of [
    addList,
    addWho,
    addWhy,
    addClients,
    addWatch,
    addRefusals,
    addStatus,
    addCheck,
    addSwap,
    addLockspaces,
    addLeases,
    addMetrics,
    addServe,
  ]) {
    add(program, context);
  }
  return program;
}
