/** A campaign as a command: its report, and its exit status. */
import { writeFileSync } from 'node:fs';
import { UsageError } from '../../src/lab/command-line.ts';

/** @param file for the report as JSON, beside `text`; `-`: JSON alone, on standard output */
export function writeReport(report: object, text: string, file: string | undefined): void {
  const json = `${JSON.stringify(report, null, 1)}\n`;
  if (file === '-') process.stdout.write(json);
  else {
    if (file !== undefined) writeFileSync(file, json);
    process.stdout.write(text);
  }
}

/** Exits with the status that `main` returns, 2 for a command line that it does not know, or 3 when the campaign cannot be run. */
export async function runCommand<O extends { readonly help: boolean }>(
  name: string,
  usage: string,
  parseOptions: (args: readonly string[]) => O,
  main: (options: O) => Promise<number>,
): Promise<void> {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options.help) process.stdout.write(usage);
    else process.exitCode = await main(options);
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    // At once: rivals that a campaign has left running would ask whatever process gets the pid by which they name their daemon's root.
    process.exit(error instanceof UsageError ? 2 : 3);
  }
}

/** Aborted by SIGTERM: the campaign ends, and what it has found so far is judged. */
export function terminated(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGTERM', () => {
    controller.abort();
  });
  return controller.signal;
}
