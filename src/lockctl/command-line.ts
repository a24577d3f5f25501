/** Any command line, taken apart by the program's description. */
import { CommanderError } from 'commander';
import { connectClient, Daemon } from './daemon.ts';
import { CommandError, Exit } from './exit.ts';
import { buildProgram } from './program.ts';
import { resolveTarget } from './target.ts';

/** Runs it to its end, and returns the exit status. @throws CommandError */
export async function runCommand(args: readonly string[]): Promise<number> {
  let daemon: Daemon | undefined;
  const abort = new AbortController();
  const program = buildProgram({
    daemon: () => (daemon ??= new Daemon(resolveTarget(program.opts<{ connect?: string }>().connect), connectClient)),
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
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    if (abort.signal.aborted && !(error instanceof CommandError)) return Exit.OK;
    throw error;
  } finally {
    daemon?.close();
  }
}
