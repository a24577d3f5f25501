import { CommandError, Exit } from './exit.ts';
import { complain } from './output.ts';

/** Waits for a command, reports its error, and sets the exit status of the process. Returns that status. */
export async function finish(work: Promise<number>): Promise<number> {
  const status = await work.catch(explain);
  process.exitCode = status;
  return status;
}

function explain(error: unknown): Exit {
  const isClear = error instanceof CommandError;
  const text = isClear ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  complain(text);
  return isClear ? error.exit : Exit.NO;
}
