/** `swap`: puts another lock daemon in place of the running one, live: same process, same locks, same connections. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import { name, print, style } from '../output.ts';
import { checksBefore, type Check, describeRunning, type Running } from '../swap/checks.ts';
import { executeAgain } from '../swap/execute.ts';
import { findProgram, install, type Installation } from '../swap/program.ts';
import { toBytes } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';

interface Options {
  readonly to?: string;
  readonly dryRun?: true;
  readonly force?: true;
}

export function addSwap(program: Command, context: Context): void {
  program
    .command('swap')
    .description('exchange the running daemon for another program, live: no lock and no connection is lost')
    .option(
      '--to <program>',
      "'node' (this implementation), 'c' (libvirt's), or a program's path (default: the other one)",
    )
    .option('-n, --dry-run', 'make all checks, and change nothing')
    .option('--force', 'go on where a check fails')
    .addHelpText(
      'after',
      `
The program at the path by which the daemon was started is replaced, and the daemon told to execute it (SIGUSR1).
What was there is kept beside it as PATH.before-swap, and put back when the daemon does not take the new one.`,
    )
    .action(async (options: Options) => {
      const daemon = context.daemon();
      const running = await describeRunning(daemon);
      const target = findProgram(options.to ?? (running.kind === 'c' ? 'node' : 'c'), running.program);
      print(`${style('bold', 'running')}  ${describe(running)}`);
      print(`${style('bold', 'to')}       ${name(toBytes(target))}`);
      const checks = await checksBefore(daemon, running, target);
      printChecks(checks);
      // A C daemon that still has somebody connected who never registered cannot write its state.
      daemon.close();
      const failed = checks.filter(({ ok }) => !ok).length;
      if (failed > 0 && options.force !== true) {
        throw new CommandError(Exit.NO, `${failed} checks failed: nothing was changed`);
      }
      if (options.dryRun === true) {
        print(`Would put ${target} at ${running.program}, and send SIGUSR1 to ${running.pid}. Nothing was changed.`);
        return;
      }
      // From here to its end: an interrupt would leave the program at the path, and the daemon with the other.
      context.untilInterrupted();
      await exchange(daemon, running, target, options.force === true);
    });
}

async function exchange(daemon: InquireClient, running: Running, target: string, force: boolean): Promise<void> {
  const installation: Installation = install(target, running.program);
  let checks: Check[];
  try {
    checks = await executeAgain(daemon, running, target, force);
  } catch (error) {
    installation.undo();
    throw new CommandError(
      Exit.NO,
      `${(error as Error).message}\nThe former program is back at ${running.program}; the log of the daemon says more.`,
    );
  }
  installation.finish();
  printChecks(checks);
  const failed = checks.filter(({ ok }) => !ok).length;
  if (failed > 0)
    throw new CommandError(Exit.NO, `the new program runs, but ${failed} checks failed: look at them now`);
  print(style('green', `Swapped: ${describe(await describeRunning(daemon))}`));
}

function describe({ kind, version, pid, program }: Running): string {
  const what = kind === 'c' ? `libvirt's C virtlockd ${version}` : `virtlockd-node, as libvirt ${version}`;
  return `${what}, pid ${pid}, started as ${name(toBytes(program))}`;
}

function printChecks(checks: readonly Check[]): void {
  for (const { ok, what, detail } of checks) {
    print(`${ok ? style('green', 'ok  ') : style('red', 'FAIL')} ${what}${detail === '' ? '' : `: ${detail}`}`);
  }
}
