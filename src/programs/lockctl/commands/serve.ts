/** `serve`: a live page for this machine. */
import { once } from 'node:events';
import { type Command, Option } from 'commander';
import type { Context } from '../context.ts';
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
    .addHelpText(
      'after',
      '\nPrints the address of the page, which contains a random token. Other addresses and other machines are refused.\nThe page is read-only.',
    )
    .action(async ({ port }: { port: number }) => {
      // Loaded here, so that other commands do not load an HTTP server.
      const { PageServer } = await import('../serve/server.ts');
      const signal = context.untilInterrupted();
      const server = await PageServer.start(context.daemon(), port);
      try {
        print(server.address);
        if (!signal.aborted) await once(signal, 'abort');
      } finally {
        await server.stop();
      }
    });
}
