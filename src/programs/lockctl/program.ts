/** The command line of virt-lockctl. A test compares completion and the manual page with it. */
import { Command } from 'commander';
import { installedVersion } from '../../posix/root.ts';
import { addCheck } from './commands/check.ts';
import { addClients } from './commands/clients.ts';
import { addHealth } from './commands/health.ts';
import { addHosts } from './commands/hosts.ts';
import { addLeases } from './commands/leases.ts';
import { addList } from './commands/list.ts';
import { addLockspaces } from './commands/lockspaces.ts';
import { addMetrics } from './commands/metrics.ts';
import { addRefusals } from './commands/refusals.ts';
import { addRelease } from './commands/release.ts';
import { addServe } from './commands/serve.ts';
import { addStatus } from './commands/status.ts';
import { addSwap } from './commands/swap.ts';
import { addWatch } from './commands/watch.ts';
import { addWho } from './commands/who.ts';
import { addWhy } from './commands/why.ts';
import type { Context } from './context.ts';
import { notEmpty } from './not-empty.ts';
import { printError, printText } from './output.ts';

const EXIT_HELP = `
Exit status:
  0  done, found, or no findings
  1  not found, refused, or there are findings
  2  invalid command line
  3  no daemon answers
  4  the daemon does not answer inquiries: it is libvirt's C virtlockd
  5  access denied`;

export function buildProgram(context: Context): Command {
  const program = new Command('virt-lockctl')
    .description('Show who holds which disk and why a guest was refused; check and replace the lock daemon.')
    .version(installedVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .option(
      '-c, --connect <daemon>',
      "virtlockd:///system, virtlockd:///session, or the path of a socket or of its directory (default: the system's daemon for root, else the session's)",
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
    addHealth,
    addCheck,
    addRelease,
    addSwap,
    addLockspaces,
    addLeases,
    addHosts,
    addMetrics,
    addServe,
  ]) {
    add(program, context);
  }
  return program;
}
