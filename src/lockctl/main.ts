/** virt-lockctl: who holds this disk, and how the lock daemon is. */
import { CommanderError } from 'commander';
import { posix } from '../posix/posix.ts';
import { Daemon } from './daemon.ts';
import { CommandError, Exit } from './exit.ts';
import { buildProgram } from './program.ts';
import { resolveTarget } from './target.ts';

/** Runs a command line to its end, and returns the exit status. */
async function run(args: readonly string[]): Promise<number> {
  let daemon: Daemon | undefined;
  const abort = new AbortController();
  const program = buildProgram({
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
