/** virtlockd-fuzz: searches for inputs that a lock daemon, or a part of it, handles wrongly. */
import { exitProcess } from '../../posix/exit.ts';
import { UsageError } from '../../lab/command-line.ts';
import { parseOptions, usage } from './options.ts';

const EXIT = { clean: 0, found: 1, usage: 2, unable: 3 } as const;

/** A run throws as many errors as it makes calls, and does not need their stacks. */
Error.stackTraceLimit = 0;

try {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(usage);
    exitProcess(EXIT.clean);
  }
  // Before the daemon's code is loaded, which it changes. Only when needed, for it takes a second.
  if (options.isGuided) await import('./instrument.ts');
  const { run } = await import('./run.ts');
  exitProcess((await run(options)) > 0 ? EXIT.found : EXIT.clean);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`virtlockd-fuzz: ${message}\n${error instanceof UsageError ? usage : ''}`);
  exitProcess(error instanceof UsageError ? EXIT.usage : EXIT.unable);
}
