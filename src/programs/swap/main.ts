/**
 * virtlockd-swap: lets the lock daemons that run on this host go on in the program that lies at /usr/sbin/virtlockd now.
 * Run by the package's maintainer scripts, and by an administrator when those had to leave a daemon as it was.
 *
 *     virtlockd-swap           libvirt's daemon continues in this package's; this package's is executed again
 *     virtlockd-swap --back    this package's daemons continue in libvirt's program, which must lie there by now
 *     virtlockd-swap --end     ends this package's daemons if they hold no locks
 *     --force                  signals libvirt's daemon also while a client has called nothing; on the way back to it, closes
 *                              connections that have not registered
 *
 * Exit status 0: done, or nothing to do. 1: a program is broken, or a daemon ended. 75: this is not the moment.
 */
import { PROGRAM } from '../../libvirt/paths.ts';
import { installRoot } from '../../posix/root.ts';
import { controlGroupsOf } from '../../proc/processes.ts';
import { findDaemons, type LockDaemon, socketsOfDaemon } from '../../swap/daemons.ts';
import { isCallError, Lost, Refused, Unsafe } from '../../swap/errors.ts';
import { end, exchange, type Report } from '../../swap/exchange.ts';
import { checkDescriptors, checkProcess, checkSpace, proveProgram } from '../../swap/preconditions.ts';
import { restoreLimits } from '../../swap/quiet.ts';

const NOTES = '/run';
const PID_FILE = '/run/virtlockd.pid';
const FAILED = 1;
const NOT_NOW = 75;
const USAGE = 64;

type Mode = 'forth' | 'back' | 'end';

function say(text: string): void {
  process.stderr.write(`virtlockd-swap: ${text}\n`);
}

function describe({ kind, pid, uid }: LockDaemon): string {
  return `${kind === 'libvirt' ? "libvirt's virtlockd" : 'virtlockd'}, process ${pid}${uid === 0 ? '' : ` of user ${uid}`}`;
}

function done(daemon: LockDaemon, { after, gone }: Report): void {
  const ended = gone.length === 0 ? '' : `; ${gone.length} were freed meanwhile`;
  say(`${describe(daemon)}: goes on in ${PROGRAM}, ${after.length} locks held${ended}`);
}

/** Whether a daemon is none of this run's business. */
function passedOver({ kind, uid }: LockDaemon, mode: Mode): boolean {
  // Session daemons of libvirt's stay what they are: they end by themselves soon after the last guest.
  return kind === 'libvirt' && (mode !== 'forth' || uid !== 0);
}

async function handle(daemon: LockDaemon, mode: Mode, force: boolean): Promise<void> {
  const { pid, kind } = daemon;
  if (mode === 'end') {
    await end(pid, PID_FILE);
    say(`${describe(daemon)}: ended, it held no locks`);
    return;
  }
  if (kind === 'libvirt') {
    checkProcess(daemon);
    // Now, as a daemon without a free one answers nobody, and again when nobody can come any more.
    checkDescriptors(pid);
  }
  const check = (clients: number): void => {
    checkSpace(pid, clients);
    checkDescriptors(pid);
  };
  const sockets = socketsOfDaemon(pid);
  const options = { notes: NOTES, pidFile: PID_FILE, force, registered: mode === 'back', check };
  done(daemon, await exchange({ pid, kind, ...sockets, ...options }));
}

/** Where the daemon's own log, whose last words tell about a refusal, is to be found. */
function whereItLogs(pid: number): string {
  try {
    if (controlGroupsOf(pid).includes('virtlockd.service')) return 'journalctl -u virtlockd.service';
  } catch {
    // It is gone.
  }
  return 'its log';
}

/** The exit status that an error means, which is reported. */
function failed(daemon: LockDaemon, error: unknown): number {
  if (error instanceof Lost) {
    say(`${describe(daemon)}: ${error.message}`);
    return FAILED;
  }
  if (error instanceof Unsafe || (isCallError(error) && daemon.kind === 'libvirt')) {
    say(`${describe(daemon)}, is left as it is: ${error.message}`);
    return NOT_NOW;
  }
  if (error instanceof Refused || isCallError(error)) {
    say(`${describe(daemon)}, goes on with the program that it had: ${error.message}; see ${whereItLogs(daemon.pid)}`);
    return FAILED;
  }
  throw error;
}

async function main(args: readonly string[]): Promise<number> {
  const known = ['--back', '--end', '--force'];
  if (args.some((arg) => !known.includes(arg))) {
    say(`usage: virtlockd-swap [--back | --end] [--force]`);
    return USAGE;
  }
  const mode: Mode = args.includes('--back') ? 'back' : args.includes('--end') ? 'end' : 'forth';
  const daemons = findDaemons(installRoot);
  let worst = 0;
  for (const { pid } of daemons) await restoreLimits(pid, NOTES).catch(() => undefined);
  const chosen = daemons.filter((daemon) => !passedOver(daemon, mode));
  if (chosen.length === 0) return 0;
  if (mode === 'forth') {
    try {
      proveProgram();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      for (const daemon of chosen) failed(daemon, error);
      return FAILED;
    }
  }
  for (const daemon of chosen) {
    try {
      await handle(daemon, mode, args.includes('--force'));
    } catch (error) {
      const status = failed(daemon, error);
      if (worst !== FAILED) worst = status;
    }
  }
  return worst;
}

void main(process.argv.slice(2)).then((status) => {
  process.exitCode = status;
});
