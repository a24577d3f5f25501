/** Any command line, taken apart by the program's description. */
import { CommanderError } from 'commander';
import { connectClient, InquireClient } from './inquire-client.ts';
import { Exit } from './exit.ts';
import { buildProgram } from './program.ts';
import { resolveTarget } from './target.ts';

/** Runs it to its end, and returns the exit status. @throws CommandError */
export async function runCommand(args: readonly string[]): Promise<number> {
  let daemon: InquireClient | undefined;
  const abort = new AbortController();
  const program = buildProgram({
    daemon: () =>
      (daemon ??= new InquireClient(resolveTarget(program.opts<{ connect?: string }>().connect), connectClient)),
    untilInterrupted: () => {
      catchInterrupts(abort);
      return abort.signal;
    },
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? Exit.OK);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    throw error;
  } finally {
    daemon?.close();
  }
}

const INTERRUPTS = ['SIGINT', 'SIGTERM'] as const;

/** The first one aborts, and the next one ends the process: as does every one of a command that has not asked for this. */
export function catchInterrupts(abort: AbortController): void {
  const interrupt = (): void => {
    for (const signal of INTERRUPTS) process.off(signal, interrupt);
    abort.abort();
  };
  for (const signal of INTERRUPTS) process.on(signal, interrupt);
}
