import { CommandError, Exit } from './exit.ts';

/** Parses a word of the command line. An empty one is most often an unset variable of a script. */
export function notEmpty(what: string): (text: string) => string {
  return (text) => {
    if (text === '') throw new CommandError(Exit.USAGE, `${what} must not be empty`);
    return text;
  };
}
