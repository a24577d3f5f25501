/** Exchanges the program of a running lock daemon, or says why this is not the moment. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../../src/client/client.ts';
import { CallTimeout, ConnectionLost, ProtocolError, RemoteFailure } from '../../src/client/errors.ts';
import { adminProgram, type ClientRef } from '../../xdr/programs/admin.ts';
import { lockProgram } from '../../xdr/programs/lock.ts';
import { EMPTY_STATE } from '../../src/restart/document.ts';
import { failpoint } from './failpoint.ts';
import { forgetLimits, type Limits, notedLimits, noteLimits, readLimits, setLimits } from './limits.ts';
import {
  image,
  imageStart,
  listensAt,
  type LockDaemon,
  locksOf,
  pidFileLock,
  programOf,
  PROGRAM,
  sameFile,
  status,
} from './processes.ts';

/** How long to wait for a moment at which C survives SIGUSR1, in milliseconds. */
const QUIET_MS = 10_000;
const QUIET_LOOK_MS = 100;
/** How long the exchange itself may take: our daemon gives the proof of its successor 10 s. */
const EXCHANGE_MS = 15_000;
const EXCHANGE_LOOK_MS = 10;

/** The oldest C daemon that hands over: 7.0.0 exits on SIGUSR1. What lies between is not known. */
const OLDEST_C = 9_000_000n;

/** This is not the moment, or this daemon cannot be exchanged: nothing was changed. */
export class Unsafe extends Error {}
/** The daemon goes on with the program that it had. */
export class Refused extends Error {}
/** The daemon ended. */
export class Lost extends Error {}

/** Whether an error came from a call to the daemon. */
export function isCallError(error: unknown): error is Error {
  return [RemoteFailure, ConnectionLost, CallTimeout, ProtocolError].some((kind) => error instanceof kind);
}

export interface Report {
  /** Locks held in the new program, its pid file's not counted. */
  readonly locks: number;
  /** Those that were held before and are not now: of owners that ended meanwhile. */
  readonly gone: readonly string[];
}

/** libvirt's daemons connect for one request at a time: while such a connection is there, one is under way. */
const LIBVIRT = /^(?:libvirtd|virt(?:qemu|lxc|xen|ch|bhyve|vz)d)$/;

async function clientsOf(admin: Client): Promise<ClientRef[]> {
  const args = { server: { name: 'virtlockd' }, needResults: 1, flags: 0 };
  return (await admin.call(adminProgram, 'listClients', args)).clients;
}

async function peerOf(admin: Client, client: ClientRef): Promise<number> {
  const { params } = await admin.call(adminProgram, 'getClientInfo', { client, flags: 0 });
  const pid = params.find(({ field }) => field === 'unix_process_id')?.value.value;
  return typeof pid === 'number' ? pid : 0;
}

/**
 * Why the daemon must not be signalled now. It tells nobody who has registered; but it does not know who a client is before
 * that one's first call, and the first call of everything that speaks this protocol is to register. After an exec it has
 * forgotten; but who was connected before that had registered, or it would not have come through.
 */
async function obstacle(pid: number, admin: Client, force: boolean): Promise<string | undefined> {
  const began = imageStart(pid);
  for (const client of await clientsOf(admin)) {
    let peer: number;
    try {
      peer = await peerOf(admin, client);
    } catch (error) {
      if (!(error instanceof RemoteFailure)) throw error;
      if (force || Number(client.timestamp) < began) continue;
      return `client ${client.id} is connected and has called nothing yet, which libvirt's lock daemon does not survive; virt-admin client-disconnect ends it`;
    }
    if (LIBVIRT.test(path.basename(programOf(peer) ?? ''))) {
      return `process ${peer} of libvirt's has a request under way`;
    }
  }
  return undefined;
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

/** Waits for the next image of the process. @throws Refused when it does not come, Lost when the process ends */
async function exchanged(pid: number, before: string | undefined): Promise<void> {
  const until = performance.now() + EXCHANGE_MS;
  for (;;) {
    const now = image(pid);
    if (now === undefined || isZombie(pid)) throw new Lost(`process ${pid} has ended, and its locks with it`);
    if (now !== before && now !== '') return;
    if (performance.now() > until) throw new Refused(`process ${pid} has not taken up the program at ${PROGRAM}`);
    await pause(EXCHANGE_LOOK_MS);
  }
}

function isZombie(pid: number): boolean {
  try {
    return status(pid, 'State')?.startsWith('Z') ?? true;
  } catch {
    return true;
  }
}

const PID_FILE = '/run/virtlockd.pid';

/** The locks that a process holds, but for the one on its pid file. */
function leases(pid: number): string[] {
  const pidFile = pidFileLock(pid, PID_FILE);
  return locksOf(pid).filter((row) => row !== pidFile);
}

function report(pid: number, before: readonly string[]): Report {
  const now = leases(pid);
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
  const admin = await Client.connect(adminSocket);
  // One client of our own, registered and holding nothing, because a limit of 0 cannot be set.
  const own = await Client.connect(socket);
  try {
    const { version } = await admin.call(adminProgram, 'getLibVersion', undefined);
    if (version < OLDEST_C) {
      throw new Unsafe('it is older than libvirt 9.0.0, and such a daemon ends when it is asked to re-execute');
    }
    const owner = { uuid: Buffer.alloc(16, 0xff), name: 'virtlockd-swap', id: process.pid, pid: process.pid };
    await own.call(lockProgram, 'register', { owner, flags: 0 });
    const limits = notedLimits(pid) ?? (await readLimits(admin));
    try {
      const clients = await freeze(pid, admin, limits, force);
      checkSpace(pid, clients);
      failpoint('frozen');
      const locks = leases(pid);
      const before = image(pid);
      process.kill(pid, 'SIGUSR1');
      failpoint('signalled');
      await exchanged(pid, before);
      failpoint('exchanged');
      return report(pid, locks);
    } finally {
      await thaw(pid, admin, limits);
    }
  } finally {
    own.close();
    admin.close();
  }
}

/** Holds newcomers back and waits for a quiet moment. Returns the number of clients. @throws Unsafe */
async function freeze(pid: number, admin: Client, limits: Limits, force: boolean): Promise<number> {
  const until = performance.now() + QUIET_MS;
  noteLimits(pid, limits);
  failpoint('noted');
  for (;;) {
    const { length } = await clientsOf(admin);
    await setLimits(admin, { clients: length, unauthenticated: length });
    const why = await obstacle(pid, admin, force);
    // As many as the limit allows: nobody can have come since they were looked at.
    if (why === undefined && (await clientsOf(admin)).length === length) return length;
    if (performance.now() > until) throw new Unsafe(why ?? 'clients come and go');
    await pause(QUIET_LOOK_MS);
  }
}

/** After an exchange this is also the first answer of the new program, on a connection from before. */
async function thaw(pid: number, admin: Client, limits: Limits): Promise<void> {
  try {
    await setLimits(admin, limits);
    forgetLimits(pid);
  } catch (error) {
    if (!isCallError(error)) throw error;
    // The daemon has ended, or the note stays for the next run: virtlockd-swap begins with it.
    process.stderr.write(`virtlockd-swap: process ${pid} keeps the lowered limits of a swap: ${error.message}\n`);
  }
}

/** Gives a daemon back the limits that an interrupted swap has taken. */
export async function restoreLimits({ pid }: LockDaemon): Promise<void> {
  const limits = notedLimits(pid);
  const socket = limits === undefined ? undefined : listensAt(pid, '/virtlockd-admin-sock');
  if (limits === undefined || socket === undefined) return;
  const admin = await Client.connect(socket);
  await thaw(pid, admin, limits);
  admin.close();
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
 * @throws Refused, Lost
 */
export async function reexecute({ pid }: LockDaemon): Promise<Report> {
  const locks = leases(pid);
  const before = image(pid);
  const socket = listensAt(pid, '/virtlockd-admin-sock');
  process.kill(pid, 'SIGUSR1');
  failpoint('signalled');
  await exchanged(pid, before);
  await answered(socket);
  return report(pid, locks);
}

/** Ends a daemon that holds no lock. @throws Unsafe when it holds one */
export async function end({ pid }: LockDaemon): Promise<void> {
  const held = leases(pid).length;
  if (held > 0) throw new Unsafe(`it holds ${held} locks, and there is no other lock daemon to go on with them`);
  process.kill(pid, 'SIGTERM');
  const until = performance.now() + EXCHANGE_MS;
  while (image(pid) !== undefined && !isZombie(pid)) {
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
