/**
 * virtlockd-swap: has the running lock daemons of this host execute the program at /usr/sbin/virtlockd. The package's
 * maintainer scripts run it, and an administrator when those had to leave a daemon as it was.
 */
import { PROGRAM } from '../../libvirt/paths.ts';
import { installRoot } from '../../posix/root.ts';
import { controlGroupsOf } from '../../proc/processes.ts';
import { findDaemons, type LockDaemon, socketsOfDaemon, usersOfRuntime } from '../../swap/daemons.ts';
import { isCallError, Lost, Refused, Unsafe } from '../../swap/errors.ts';
import { end, exchange, type Report } from '../../swap/exchange.ts';
import { checkDescriptors, checkProcess, checkSpace, proveProgram } from '../../swap/preconditions.ts';
import { restoreLimits } from '../../swap/quiet.ts';
import { asUser, untilEnded } from './users.ts';

const HELP = `Usage: virtlockd-swap [--back | --end] [--force]

Has the running lock daemons execute the program at ${PROGRAM}. Locks and connections stay. Run by root, it does so for root's
daemons, and has each user's own daemons do the same without waiting for them. Run by another user, it does so for that user's daemons.

  (no option)  libvirt's daemon continues in this package's program, and this package's daemons execute it again
  --back       this package's daemons continue in libvirt's program, which must be at ${PROGRAM}
  --end        end this package's daemons if they hold no locks
  --force      signal libvirt's daemon even if a client has not called yet; with --back, close clients that have not registered

Exit status:
   0  done, or nothing to do
   1  a program does not run, or a daemon has ended
  64  invalid command line
  75  not possible now: the daemon was left as it is
`;

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
  const ended = gone.length === 0 ? '' : `; ${gone.length} were released during the swap`;
  say(
    `${describe(daemon)}: goes on in ${PROGRAM}, with ${after.length} ${after.length === 1 ? 'lock' : 'locks'}${ended}`,
  );
}

/** This process's user. */
const self = process.geteuid?.() ?? -1;

/** Whether this run leaves a daemon alone. */
function passedOver({ kind }: LockDaemon, mode: Mode): boolean {
  // libvirt's session daemons are left alone: they end by themselves soon after the last guest.
  return kind === 'libvirt' && (mode !== 'forth' || self !== 0);
}

/** How long a removal gives the daemons of other users to execute libvirt's program before the files of ours go, in milliseconds. */
const OTHERS_MS = 1_000;

/**
 * Has the daemons of other users do the same. Nothing that those users do, whose processes may only seem to be lock daemons, changes the
 * result or holds this up.
 */
async function handleOthers(mode: Mode): Promise<void> {
  // Without libvirt's program there is none to go on in: they go on in ours, and end by themselves soon after the last guest.
  if (self !== 0 || mode === 'end') return;
  const users = usersOfRuntime(installRoot);
  const runs = asUser(users, process.argv.slice(1));
  if (mode === 'back') await untilEnded(runs, OTHERS_MS);
}

async function handle(daemon: LockDaemon, mode: Mode, force: boolean): Promise<void> {
  const { pid, kind } = daemon;
  if (mode === 'end') {
    await end(pid, PID_FILE);
    say(`${describe(daemon)}: ended without locks`);
    return;
  }
  if (kind === 'libvirt') {
    checkProcess(daemon);
    // Now, because a daemon without a free descriptor does not answer, and again when newcomers are held back.
    checkDescriptors(pid);
  }
  const check = (clients: number): void => {
    checkSpace(pid, clients);
    checkDescriptors(pid);
  };
  const sockets = socketsOfDaemon(pid, daemon.uid);
  const options = { notes: NOTES, pidFile: PID_FILE, force, registered: mode === 'back', check };
  done(daemon, await exchange({ pid, kind, ...sockets, ...options }));
}

/** Where to find the daemon's log, which explains a refusal. */
function whereItLogs(pid: number): string {
  try {
    if (controlGroupsOf(pid).includes('virtlockd.service')) return 'journalctl -u virtlockd.service';
  } catch {
    // The process has ended.
  }
  return 'its log';
}

/** Reports an error. Returns its exit status. */
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
    say(`${describe(daemon)}, goes on in its former program: ${error.message}; see ${whereItLogs(daemon.pid)}`);
    return FAILED;
  }
  throw error;
}

async function main(args: readonly string[]): Promise<number> {
  const known = ['--back', '--end', '--force'];
  if (args.includes('--help')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (args.some((arg) => !known.includes(arg))) {
    process.stderr.write(HELP);
    return USAGE;
  }
  const mode: Mode = args.includes('--back') ? 'back' : args.includes('--end') ? 'end' : 'forth';
  const worst = await handleOwn(mode, args.includes('--force'));
  if (worst === 0) await handleOthers(mode);
  return worst;
}

/** Handles the daemons of this process's user. Returns the exit status. */
async function handleOwn(mode: Mode, force: boolean): Promise<number> {
  const daemons = findDaemons(installRoot, self);
  let worst = 0;
  for (const daemon of daemons) await restoreLimits(daemon, NOTES).catch(() => undefined);
  const chosen = daemons.filter((daemon) => !passedOver(daemon, mode));
  if (chosen.length === 0) return 0;
  // Another user's daemon is ours, and proves the program itself.
  if (mode === 'forth' && self === 0) {
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
      await handle(daemon, mode, force);
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
