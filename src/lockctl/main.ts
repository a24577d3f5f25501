/** virt-lockctl: who holds this disk, and how the lock daemon is. */
import { posix } from '../posix/posix.ts';
import { CommandError, Exit } from './exit.ts';
import { answer, readQuestion } from './quick-who.ts';

/** Runs a command line to its end, and returns the exit status. */
async function run(args: readonly string[]): Promise<number> {
  try {
    const question = readQuestion(args);
    if (question !== null) return await answer(question);
    const { runCommand } = await import('./command-line.ts');
    return await runCommand(args);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    process.stderr.write(`virt-lockctl: ${error.message}\n`);
    return error.exit;
  }
}

posix.setProcessName('virt-lockctl');

void run(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`virt-lockctl: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = Exit.NO;
  },
);
