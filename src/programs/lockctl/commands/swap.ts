/** `swap`: puts another lock daemon in place of the running one, live: same process, same locks, same connections. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { Kind } from '../../../swap/daemons.ts';
import { Unsafe } from '../../../swap/errors.ts';
import { exchange } from '../../../swap/exchange.ts';
import { findProgram, install, kindOf } from '../../../swap/program.ts';
import type { Context } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import { name, print, style } from '../output.ts';
import { checksBefore, type Check, describeRunning, type Running } from '../swap-checks.ts';
import { pause, toBytes } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';

/** What the kinds of daemons are called on the command line. */
const WORDS: Readonly<Record<Kind, string>> = { own: 'node', libvirt: 'c' };
/** How long the new program may take to answer, in milliseconds. */
const ANSWER_MS = 25_000;
const LOOK_MS = 10;

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
      const target = findTarget(options.to ?? WORDS[running.kind === 'own' ? 'libvirt' : 'own'], running.program);
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
      await replace(daemon, running, target, options.force === true);
    });
}

/** @param wanted a kind, by its word, or a path @throws CommandError when there is no such program */
function findTarget(wanted: string, running: string): string {
  if (wanted === WORDS.own) return orFail(() => findProgram('own', running));
  if (wanted === WORDS.libvirt) return orFail(() => findProgram('libvirt', running));
  const absolute = path.resolve(wanted);
  if (existsSync(absolute)) return absolute;
  throw new CommandError(Exit.NO, `there is no program ${absolute}`);
}

function orFail<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof Unsafe ? new CommandError(Exit.NO, error.message) : error;
  }
}

async function replace(daemon: InquireClient, running: Running, target: string, force: boolean): Promise<void> {
  const installation = orFail(() => install(target, running.program));
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

/** Makes the daemon execute what is at its path, and looks whether all is as it was. */
async function executeAgain(daemon: InquireClient, running: Running, target: string, force: boolean): Promise<Check[]> {
  const { socket, adminSocket, pidFile } = daemon.target;
  const { pid, kind } = running;
  const notes = path.dirname(pidFile);
  const { before, after, gone } = await exchange({ pid, kind, socket, adminSocket, notes, force });
  const now = await answering(daemon);
  return [
    { ok: now.pid === pid, what: 'the same process goes on', detail: `pid ${now.pid}` },
    {
      ok: now.kind === kindOf(target),
      what: 'it is the program that was wanted',
      detail: `${WORDS[now.kind]}, ${now.version}`,
    },
    {
      ok: gone.length === 0,
      what: 'every lock is there',
      detail: gone.length === 0 ? `${after.length} of ${before.length}` : `released or lost: ${gone.join('; ')}`,
    },
  ];
}

async function answering(daemon: InquireClient): Promise<Running> {
  const until = performance.now() + ANSWER_MS;
  for (;;) {
    try {
      daemon.close();
      return await describeRunning(daemon);
    } catch (error) {
      if (performance.now() > until) throw error;
      await pause(LOOK_MS);
    }
  }
}

function describe({ kind, version, pid, program }: Running): string {
  const what = kind === 'libvirt' ? `libvirt's C virtlockd ${version}` : `virtlockd-node, as libvirt ${version}`;
  return `${what}, pid ${pid}, started as ${name(toBytes(program))}`;
}

function printChecks(checks: readonly Check[]): void {
  for (const { ok, what, detail } of checks) {
    print(`${ok ? style('green', 'ok  ') : style('red', 'FAIL')} ${what}${detail === '' ? '' : `: ${detail}`}`);
  }
}
