/** `serve`: a page to look at, for this machine only. */
import type { Command } from 'commander';
import { aborted, type Context } from '../context.ts';
import { print } from '../output.ts';
import { wholeNumber } from '../whole-number.ts';

export function addServe(program: Command, context: Context): void {
  program
    .command('serve')
    .description('serve a page that shows locks, clients and refusals live, until interrupted')
    .option('--port <port>', 'on this port of 127.0.0.1 (default: a free one)', wholeNumber(0, 65_535), 0)
    .addHelpText(
      'after',
      '\nThe page is reached on the loopback interface only, and by the printed address only, which holds a random token.\nIt shows, and changes nothing.',
    )
    .action(async ({ port }: { port: number }) => {
      // Loaded here: an HTTP server is nothing that the other commands should wait for.
      const { PageServer } = await import('../serve/server.ts');
      const signal = context.untilInterrupted();
      const server = await PageServer.start(context.daemon(), port);
      try {
        print(server.address);
        await aborted(signal);
      } finally {
        await server.stop();
      }
    });
}
