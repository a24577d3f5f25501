/** Exchanges the program of a running lock daemon, or says why this is not the moment. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../../client/client.ts';
import { ConnectionLost } from '../../client/errors.ts';
import { EMPTY_STATE } from '../../restart/empty-state.ts';
import { lackOfDescriptors } from '../../swap/descriptors.ts';
import { exchanged, Refused } from '../../swap/exchange.ts';
import { failpoint } from '../../swap/failpoint.ts';
import { image, leasesOf, listensAt, type LockDaemon, PROGRAM, sameFile, status } from '../../swap/processes.ts';
import { unregisteredClients, watchRefusals } from '../../swap/own-daemon.ts';
import { atQuietMoment, restoreLimits as restoreLimitsOf, Unsafe } from '../../swap/quiet.ts';
import { adminProgram } from '../../../xdr/programs/admin.ts';

/** How long the exchange itself may take: our daemon gives the proof of its successor 10 s, and of its start 5 s. */
const EXCHANGE_MS = 25_000;
const EXCHANGE_LOOK_MS = 10;
const NOTES = '/run';
/** How long clients that have just connected may take to register, in milliseconds. */
const QUIET_MS = 5_000;
const QUIET_LOOK_MS = 100;

export interface Report {
  /** Locks held in the new program, its pid file's not counted. */
  readonly locks: number;
  /** Those that were held before and are not now: of owners that ended meanwhile. */
  readonly gone: readonly string[];
}

/** The file that C executes again: as a shell finds a command by that name, in the process's own directory and PATH. */
function resolveProgram(pid: number, argv0: string): string | undefined {
  if (argv0.includes('/')) return path.resolve(readlinkSync(`/proc/${pid}/cwd`), argv0);
  const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  const search = environment.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? '';
  const candidates = search.split(':').map((directory) => path.join(directory, argv0));
  return candidates.find((candidate) => path.isAbsolute(candidate) && existsSync(`/proc/${pid}/root${candidate}`));
}

/** Preconditions that do not change while one waits. @throws Unsafe */
function checkProcess({ pid, argv0 }: LockDaemon): void {
  const started = resolveProgram(pid, argv0);
  if (started === undefined || !sameFile(`/proc/${pid}/root${started}`, PROGRAM)) {
    throw new Unsafe(`it was started as '${argv0}', which is not ${PROGRAM}`);
  }
  // Filters stay across exec, and what a program of libvirt's is allowed may not be enough for ours. A container's, which
  // its first process is under, too, are none of the unit's.
  const [its = 0, ours = 0, container = 0] = [pid, process.pid, 1].map((process) =>
    Number(status(process, 'Seccomp_filters') ?? 0),
  );
  if (its > Math.max(ours, container)) throw new Unsafe('its system calls are filtered');
}

/** The program at the daemon's path must run here at all, and read a state. @throws Refused */
export function proveProgram(): void {
  const file = `/run/virtlockd-swap-${process.pid}.state`;
  try {
    writeFileSync(file, JSON.stringify(EMPTY_STATE), { mode: 0o600 });
    execFileSync(PROGRAM, ['--check-state', file], { stdio: ['ignore', 'pipe', 'pipe'], timeout: EXCHANGE_MS });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    const said = `${String(stderr ?? '')}${String(stdout ?? '')}`.trim();
    throw new Refused(`${PROGRAM} does not run: ${said === '' ? (error as Error).message : said}`);
  } finally {
    rmSync(file, { force: true });
  }
}

/** C exits when it cannot write its state: as much as that may take must be free where it is written. @throws Unsafe */
function checkSpace(pid: number, clients: number): void {
  const file = `/run/virtlockd-swap-${pid}.space`;
  try {
    const bytes = 65536 + 4096 * (clients + readdirSync(`/proc/${pid}/fd`).length);
    writeFileSync(file, Buffer.alloc(bytes, ' '), { mode: 0o600 });
  } catch (error) {
    throw new Unsafe(`there is no room for its state in /run: ${(error as Error).message}`);
  } finally {
    rmSync(file, { force: true });
  }
}

/** Our runtime aborts when it finds too few descriptors free, and C ends when it cannot write its state. @throws Unsafe */
function checkDescriptors(pid: number): void {
  const lack = lackOfDescriptors(pid);
  if (lack !== undefined) throw new Unsafe(lack);
}

const PID_FILE = '/run/virtlockd.pid';

function report(pid: number, before: readonly string[]): Report {
  const now = leasesOf(pid, PID_FILE);
  return { locks: now.length, gone: before.filter((row) => !now.includes(row)) };
}

/**
 * Signals a C daemon at a moment when it survives that, and waits until this package's program runs in its process.
 * @throws Unsafe, Refused, Lost, and what a call throws
 */
export async function swapC(daemon: LockDaemon, force: boolean): Promise<Report> {
  const { pid } = daemon;
  checkProcess(daemon);
  const [socket, adminSocket] = ['/virtlockd-sock', '/virtlockd-admin-sock'].map((ending) => listensAt(pid, ending));
  if (socket === undefined || adminSocket === undefined) throw new Unsafe('it does not listen at two sockets');
  // Now, as a daemon without a free one answers nobody, and again when nobody can come any more.
  checkDescriptors(pid);
  return atQuietMoment({ pid, socket, adminSocket, notes: NOTES }, force, async (clients) => {
    checkSpace(pid, clients);
    checkDescriptors(pid);
    failpoint('frozen');
    const locks = leasesOf(pid, PID_FILE);
    const before = image(pid);
    process.kill(pid, 'SIGUSR1');
    failpoint('signalled');
    await exchanged(pid, before, EXCHANGE_MS);
    failpoint('exchanged');
    return report(pid, locks);
  });
}

/** Gives a daemon back the limits that an interrupted swap has taken. */
export async function restoreLimits({ pid }: LockDaemon): Promise<void> {
  const adminSocket = listensAt(pid, '/virtlockd-admin-sock');
  if (adminSocket !== undefined) await restoreLimitsOf({ pid, adminSocket, notes: NOTES });
}

/** Waits until the new program serves: behind its launcher it takes a moment. */
async function answered(socket: string | undefined): Promise<void> {
  if (socket === undefined) return;
  try {
    const admin = await Client.connect(socket);
    await admin.call(adminProgram, 'getLibVersion', undefined);
    admin.close();
  } catch (error) {
    // Another user's daemon closes the connection, but not before it has accepted it.
    if (!(error instanceof ConnectionLost)) throw error;
  }
}

/**
 * Asks this package's daemon to execute its path again, whatever lies there: it proves that itself, and refuses what it
 * cannot hand over to.
 * @param toC libvirt's program lies there: clients that have not registered are in the way, unless `force` closes them
 * @throws Unsafe, Refused, Lost, and what a call throws
 */
export async function reexecute({ pid }: LockDaemon, toC: boolean, force: boolean): Promise<Report> {
  const locks = leasesOf(pid, PID_FILE);
  const before = image(pid);
  const socket = listensAt(pid, '/virtlockd-admin-sock');
  const admin = socket === undefined ? undefined : await connectAdmin(socket);
  try {
    if (toC && admin !== undefined) await awaitRegistered(admin, force);
    const refusal = admin === undefined ? undefined : await watchRefusals(admin);
    process.kill(pid, 'SIGUSR1');
    failpoint('signalled');
    await exchanged(pid, before, EXCHANGE_MS, refusal);
  } finally {
    admin?.close();
  }
  await answered(socket);
  return report(pid, locks);
}

/** Undefined where it lets nobody ask, as the daemon of another user. */
async function connectAdmin(socket: string): Promise<Client | undefined> {
  const admin = await Client.connect(socket);
  try {
    await admin.call(adminProgram, 'getLibVersion', undefined);
    return admin;
  } catch (error) {
    admin.close();
    if (error instanceof ConnectionLost) return undefined;
    throw error;
  }
}

/**
 * A client that has not registered would be taken over by libvirt's daemon, which can tell it from no other and does not
 * survive its own next re-execution with it. Who has just connected is given time. @throws Unsafe
 */
async function awaitRegistered(admin: Client, force: boolean): Promise<void> {
  const until = performance.now() + QUIET_MS;
  for (;;) {
    const [one] = await unregisteredClients(admin);
    if (one === undefined) return;
    if (force) {
      const client = {
        server: { name: 'virtlockd' },
        id: BigInt(one.id),
        timestamp: BigInt(one.connectedAt),
        transport: 0,
      };
      await admin.call(adminProgram, 'closeClient', { client, flags: 0 });
    } else if (performance.now() > until) {
      throw new Unsafe(
        `client ${one.id} (pid ${one.pid}) is connected and has not registered, and libvirt's lock daemon would not survive its next re-execution with it; virt-admin client-disconnect ends it, as --force does`,
      );
    }
    await pause(QUIET_LOOK_MS);
  }
}

/** Ends a daemon that holds no lock. @throws Unsafe when it holds one */
export async function end({ pid }: LockDaemon): Promise<void> {
  const held = leasesOf(pid, PID_FILE).length;
  if (held > 0) throw new Unsafe(`it holds ${held} locks, and there is no other lock daemon to go on with them`);
  process.kill(pid, 'SIGTERM');
  const until = performance.now() + EXCHANGE_MS;
  while (image(pid) !== undefined) {
    if (performance.now() > until) throw new Refused(`process ${pid} does not end`);
    await pause(EXCHANGE_LOOK_MS);
  }
}

/** The last words of the daemon's own log about a refusal are with it; this is how to find them. */
export function whereItLogs(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, 'latin1').includes('virtlockd.service')
      ? 'journalctl -u virtlockd.service'
      : 'its log';
  } catch {
    return 'its log';
  }
}
