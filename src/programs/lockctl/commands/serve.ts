/** `serve`: a live page for this machine, and metrics for its Prometheus. */
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { type Command, Option } from 'commander';
import type { Context } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import { notEmpty } from '../not-empty.ts';
import { print } from '../output.ts';
import { wholeNumber } from '../whole-number.ts';

export function addServe(program: Command, context: Context): void {
  program
    .command('serve')
    .description('serve a page that shows locks, clients and refusals live, until interrupted')
    .addOption(
      new Option('--port <port>', 'listen on this port of 127.0.0.1')
        .argParser(wholeNumber(0, 65_535))
        .default(0, 'a free port'),
    )
    .option('--token-file <file>', 'take the token from this file, so that the address stays', notEmpty('--token-file'))
    .addHelpText(
      'after',
      `
Prints the address of the page, which contains a random token. Other addresses and other machines are refused.
The page is read-only. Metrics for Prometheus are at /metrics below the address, and at
http://127.0.0.1:PORT/metrics for requests with the token as "Authorization: Bearer TOKEN".`,
    )
    .action(async ({ port, tokenFile }: { port: number; tokenFile?: string }) => {
      const token = tokenFile === undefined ? undefined : readToken(tokenFile);
      // Loaded here, so that other commands do not load an HTTP server.
      const { PageServer } = await import('../serve/server.ts');
      const signal = context.untilInterrupted();
      const server = await PageServer.start(context.daemon(), port, token);
      try {
        print(server.address);
        if (!signal.aborted) await once(signal, 'abort');
      } finally {
        await server.stop();
      }
    });
}

/** @throws CommandError unless the file has a token that other users cannot know or guess */
function readToken(file: string): string {
  let token: string;
  let readable: boolean;
  try {
    token = readFileSync(file, 'latin1').trim();
    readable = (statSync(file).mode & 0o004) !== 0;
  } catch (error) {
    throw new CommandError(Exit.NO, `cannot read the token: ${(error as Error).message}`);
  }
  if (readable) throw new CommandError(Exit.NO, `every user can read the token: chmod o-r ${file}`);
  if (/^[\w-]{22,}$/.test(token)) return token;
  throw new CommandError(Exit.NO, `no token in ${file}: it needs at least 22 letters, digits, - and _`);
}
