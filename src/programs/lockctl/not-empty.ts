/** Words on the command line that must be something. */
import { CommandError, Exit } from './exit.ts';

/** Reads a word from the command line. An empty one is most often a variable of a script that was never set. */
export function notEmpty(what: string): (text: string) => string {
  return (text) => {
    if (text === '') throw new CommandError(Exit.USAGE, `${what} must not be empty`);
    return text;
  };
}
