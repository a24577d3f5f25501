/** Parses any command line, and runs its command. */
import { CommanderError } from 'commander';
import { connectClient, InquireClient } from './inquire-client.ts';
import { Exit } from './exit.ts';
import { buildProgram } from './program.ts';
import { resolveTarget } from './target.ts';

/** Returns the exit status. @throws CommandError */
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

/** The first signal aborts, the second ends the process. Without this call the first one ends it. */
export function catchInterrupts(abort: AbortController): void {
  const interrupt = (): void => {
    for (const signal of INTERRUPTS) process.off(signal, interrupt);
    abort.abort();
  };
  for (const signal of INTERRUPTS) process.on(signal, interrupt);
}
