/** `swap`: replaces the program of the running daemon. Process, locks and connections stay. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Kind } from '../../../swap/daemons.ts';
import { Unsafe } from '../../../swap/errors.ts';
import { exchange } from '../../../swap/exchange.ts';
import { findProgram, install, kindOf } from '../../../swap/program.ts';
import { type Context, toBytes } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import { count, name, print, style } from '../output.ts';
import { checksBefore, type Check, describeRunning, type Running, type Target } from '../swap-checks.ts';
import type { InquireClient } from '../inquire-client.ts';

/** The kinds of daemons on the command line. */
const WORDS: Readonly<Record<Kind, string>> = { own: 'node', libvirt: 'c' };
/** How long the new program may take to answer, in milliseconds. */
const ANSWER_MS = 25_000;
const RETRY_MS = 10;

interface Options {
  readonly to?: string;
  readonly dryRun?: true;
  readonly force?: true;
}

export function addSwap(program: Command, context: Context): void {
  program
    .command('swap')
    .description('replace the program of the running daemon, live: locks and connections stay')
    .option(
      '--to <program>',
      "'node' (this implementation), 'c' (libvirt's), or the path of a program (default: the kind that does not run)",
    )
    .option('-n, --dry-run', 'make all checks, but change nothing')
    .option('--force', "go on if a check fails; on the way to libvirt's daemon, close clients that have not registered")
    .addHelpText(
      'after',
      `
Replaces the program at the path by which the daemon was started, and has the daemon execute it (SIGUSR1).
The former program stays beside it as PATH.before-swap, and is put back if the daemon does not execute the new one.`,
    )
    .action(async (options: Options) => {
      const daemon = context.daemon();
      const running = await describeRunning(daemon);
      const target = findTarget(options.to ?? WORDS[running.kind === 'own' ? 'libvirt' : 'own'], running.program);
      print(`${style('bold', 'running')}  ${describe(running)}`);
      print(`${style('bold', 'to')}       ${name(toBytes(target.program))}`);
      const checks = await checksBefore(daemon, running, target);
      printChecks(checks);
      // A C daemon with an unregistered client cannot write its state, so this client must go.
      daemon.close();
      const failed = checks.filter(({ ok }) => !ok).length;
      if (failed > 0 && options.force !== true) {
        throw new CommandError(Exit.NO, `${count(failed, 'check')} failed: nothing was changed`);
      }
      if (options.dryRun === true) {
        print(
          `Would put ${target.program} at ${running.program}, and send SIGUSR1 to ${running.pid}. Nothing was changed.`,
        );
        return;
      }
      // An interrupt from here on would leave the new program at the path, and the daemon in the old one.
      context.untilInterrupted();
      await replace(daemon, running, target, options.force === true);
    });
}

/** @param wanted one of WORDS, or a path @throws CommandError when there is no such program */
function findTarget(wanted: string, running: string): Target {
  const [kind] = (['own', 'libvirt'] as const).filter((one) => WORDS[one] === wanted);
  if (kind !== undefined) return orFail(() => ({ program: findProgram(kind, running), kind }));
  const absolute = path.resolve(wanted);
  // Found out once: after the exchange an error would put the former program back.
  if (existsSync(absolute)) return orFail(() => ({ program: absolute, kind: kindOf(absolute) }));
  throw new CommandError(Exit.NO, `there is no program ${absolute}`);
}

function orFail<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof Unsafe ? new CommandError(Exit.NO, error.message) : error;
  }
}

async function replace(daemon: InquireClient, running: Running, target: Target, force: boolean): Promise<void> {
  const installation = orFail(() => install(target.program, running.program));
  let checks: Check[];
  try {
    checks = await executeAgain(daemon, running, target, force);
  } catch (error) {
    installation.undo();
    throw new CommandError(
      Exit.NO,
      `${(error as Error).message}\nThe former program is back at ${running.program}; the daemon's log says more.`,
    );
  }
  installation.finish();
  printChecks(checks);
  const failed = checks.filter(({ ok }) => !ok).length;
  if (failed > 0)
    throw new CommandError(Exit.NO, `the new program runs, but ${count(failed, 'check')} failed: see above`);
  print(style('green', `Swapped: ${describe(await describeRunning(daemon))}`));
}

/** Has the daemon execute the program at its path, and checks that process and locks are the same. */
async function executeAgain(daemon: InquireClient, running: Running, target: Target, force: boolean): Promise<Check[]> {
  const { socket, adminSocket, pidFile } = daemon.target;
  const { pid, kind } = running;
  const notes = path.dirname(pidFile);
  const registered = target.kind === 'libvirt';
  const { before, after, gone } = await exchange({ pid, kind, socket, adminSocket, pidFile, notes, force, registered });
  const now = await answering(daemon);
  return [
    { ok: now.pid === pid, what: 'the process is the same', detail: `pid ${now.pid}` },
    {
      ok: now.kind === target.kind,
      what: 'it runs the wanted program',
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
      await pause(RETRY_MS);
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
