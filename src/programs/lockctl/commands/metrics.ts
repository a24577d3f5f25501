/** `metrics`: for Prometheus, to standard output or to a file for node_exporter's textfile collector. */
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type Context, pause } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { metrics, metricsOrDown } from '../metrics.ts';
import { complain, printText } from '../output.ts';
import { wholeNumber } from '../whole-number.ts';

export function addMetrics(program: Command, context: Context): void {
  program
    .command('metrics')
    .description('print metrics in the text format of Prometheus')
    .option('--write <file>', "write to this file, atomically: for node_exporter's textfile collector")
    .option('--interval <seconds>', 'with --write: write at this interval, until interrupted', wholeNumber(1, 86_400))
    .action(async (options: { write?: string; interval?: number }) => {
      const { write: file, interval } = options;
      if (interval !== undefined && file === undefined) {
        throw new CommandError(Exit.USAGE, '--interval needs --write');
      }
      const daemon = context.daemon();
      if (file === undefined) printText(await metrics(daemon));
      else if (interval === undefined) {
        const { text, failure } = await metricsOrDown(daemon);
        replaceFile(file, text);
        if (failure !== null) throw failure;
      } else await keepWriting(daemon, file, interval * 1000, context.untilInterrupted());
    });
}

/** Goes on after a failure: the daemon may be started, and the disk may have room again. */
async function keepWriting(daemon: InquireClient, file: string, interval: number, signal: AbortSignal): Promise<void> {
  // An interrupt does not wait for a daemon that does not answer.
  const stop = (): void => daemon.close();
  signal.addEventListener('abort', stop, { once: true });
  const isOver = (): boolean => signal.aborted;
  while (!isOver()) {
    const { text, failure } = await metricsOrDown(daemon);
    if (isOver()) return;
    if (failure !== null) complain(failure.message);
    try {
      replaceFile(file, text);
    } catch (error) {
      complain((error as Error).message);
    }
    await pause(interval, signal);
  }
}

/** The collector runs as another user, and must never read half a file. */
function replaceFile(file: string, text: string): void {
  const fresh = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(fresh, text);
    chmodSync(fresh, 0o644);
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw new CommandError(Exit.NO, `cannot write ${file}: ${(error as Error).message}`);
  }
}
