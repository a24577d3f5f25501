/** Numbers on the command line. */
import { InvalidArgumentError } from 'commander';

/** Reads a whole number within a range from the command line. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`It is no whole number from ${least} to ${most}.`);
    }
    return value;
  };
}
