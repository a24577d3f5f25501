/** virt-lockctl: who holds this disk, and how the lock daemon is. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { posix } from '../posix/posix.ts';
import { installRoot } from '../posix/root.ts';
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
import { Daemon } from './daemon.ts';
import { CommandError, Exit } from './exit.ts';
import { resolveTarget } from './target.ts';

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

function build(context: Context): Command {
  const program = new Command('virt-lockctl')
    .description('Asks the lock daemon of libvirt guests who holds what, and looks after it.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .option(
      '-c, --connect <daemon>',
      "virtlockd:///system, virtlockd:///session, or the path of a socket or of its directory (default: the system's for root, else the session's)",
    )
    .addHelpText('after', EXIT_HELP)
    .showSuggestionAfterError()
    .exitOverride()
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

/** Runs a command line to its end, and returns the exit status. */
async function run(args: readonly string[]): Promise<number> {
  let daemon: Daemon | undefined;
  const abort = new AbortController();
  const program = build({
    daemon: () => (daemon ??= new Daemon(resolveTarget(program.opts<{ connect?: string }>().connect))),
    signal: abort.signal,
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      abort.abort();
    });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? Exit.OK);
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    }
    if (error instanceof CommandError) {
      process.stderr.write(`virt-lockctl: ${error.message}\n`);
      return error.exit;
    }
    if (abort.signal.aborted) return Exit.OK;
    throw error;
  } finally {
    daemon?.close();
  }
}

posix.setProcessName('virt-lockctl');

// A reader that has seen enough (head, less) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(Exit.OK);
  throw error;
});

void run(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`virt-lockctl: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = Exit.NO;
  },
);
