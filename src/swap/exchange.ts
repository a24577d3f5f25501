/** Makes a running lock daemon execute what lies at its path, and waits until it has. */
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { Client } from '../client/client.ts';
import { ConnectionLost } from '../client/errors.ts';
import { imageOf } from '../proc/processes.ts';
import { type Kind, leasesOf } from './daemons.ts';
import { Lost, Refused, Unsafe } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { awaitRegistered, watchRefusals } from './own-daemon.ts';
import { atQuietMoment } from './quiet.ts';

/** How long the exchange itself may take: our daemon gives the proof of its successor 10 s, and of its start 5 s. */
export const EXCHANGE_MS = 25_000;
const LOOK_MS = 10;

export interface Exchange {
  readonly pid: number;
  /** What it is now. */
  readonly kind: Kind;
  readonly socket: string | undefined;
  readonly adminSocket: string | undefined;
  /** A directory that only its user writes to, for the note of what an interrupted run has to restore. */
  readonly notes: string;
  /** Whose lock is none that must stay. */
  readonly pidFile?: string;
  /** Also while a client of libvirt's daemon has called nothing. */
  readonly force: boolean;
  /** Of a daemon of ours: clients must have registered before. `force` closes the others. */
  readonly registered?: boolean;
  /** Called at the moment, with how many clients a daemon of libvirt's has. What it throws leaves that as it is. */
  check?(clients: number): void;
}

export interface Report {
  /** The locks before and after, as {@link leasesOf} has them. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Those that are not there any more: of owners that ended meanwhile, if all is well. */
  readonly gone: readonly string[];
}

/** @throws Unsafe with nothing changed, Refused, Lost, and what a call throws */
export async function exchange(daemon: Exchange): Promise<Report> {
  const { pid, pidFile } = daemon;
  const before = await (daemon.kind === 'libvirt' ? exchangeLibvirts(daemon) : exchangeOwn(daemon));
  const after = leasesOf(pid, pidFile);
  const present = new Set(after);
  return { before, after, gone: before.filter((row) => !present.has(row)) };
}

/** Signals it at a moment when it survives that. Returns its locks of before, as {@link exchangeOwn}. */
async function exchangeLibvirts({ socket, adminSocket, ...daemon }: Exchange): Promise<string[]> {
  const { pid, pidFile, force } = daemon;
  if (socket === undefined || adminSocket === undefined) throw new Unsafe('it does not listen at two sockets');
  return atQuietMoment({ ...daemon, socket, adminSocket }, force, async (clients) => {
    daemon.check?.(clients);
    failpoint('frozen');
    const before = leasesOf(pid, pidFile);
    await execute(pid);
    return before;
  });
}

/** Asks it to execute its path, whatever lies there: it proves that itself, and refuses what it cannot hand over to. */
async function exchangeOwn({ pid, adminSocket, pidFile, registered, force }: Exchange): Promise<string[]> {
  const before = leasesOf(pid, pidFile);
  const admin = adminSocket === undefined ? undefined : await connectAdmin(adminSocket);
  try {
    if (registered === true && admin !== undefined) await awaitRegistered(admin, force);
    await execute(pid, admin === undefined ? undefined : await watchRefusals(admin));
  } finally {
    admin?.close();
  }
  if (adminSocket !== undefined) await untilServed(adminSocket);
  return before;
}

/** A connection on which it has answered; undefined where it lets nobody ask, as the daemon of another user. */
async function connectAdmin(socket: string): Promise<Client | undefined> {
  const admin = await Client.connect(socket);
  try {
    await admin.call(adminProgram, 'getLibVersion', undefined);
    return admin;
  } catch (error) {
    admin.close();
    // It closes the connection, but not before it has accepted it.
    if (error instanceof ConnectionLost) return undefined;
    throw error;
  }
}

/** Waits until the new program serves: behind its launcher it takes a moment. */
async function untilServed(socket: string): Promise<void> {
  try {
    (await connectAdmin(socket))?.close();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
  }
}

/**
 * Signals a process and waits for its next image.
 * @param refusal why the daemon will not take it up, once it has said so
 * @throws Refused when it does not come, Lost when the process ends
 */
async function execute(pid: number, refusal: () => string | undefined = () => undefined): Promise<void> {
  const before = imageOf(pid);
  process.kill(pid, 'SIGUSR1');
  failpoint('signalled');
  const until = performance.now() + EXCHANGE_MS;
  for (;;) {
    const now = imageOf(pid);
    if (now === undefined) throw new Lost(`process ${pid} has ended, and its locks with it`);
    if (now !== before) break;
    const reason = refusal();
    if (reason !== undefined) throw new Refused(`process ${pid} refuses the new program: ${reason}`);
    if (performance.now() > until) {
      throw new Refused(`process ${pid} has not executed the new program within ${EXCHANGE_MS / 1000} s`);
    }
    await pause(LOOK_MS);
  }
  failpoint('exchanged');
}

/** Ends a daemon that holds no lock. @throws Unsafe when it holds one, Refused when it does not end */
export async function end(pid: number, pidFile: string): Promise<void> {
  const held = leasesOf(pid, pidFile).length;
  if (held > 0) throw new Unsafe(`it holds ${held} locks, and there is no other lock daemon to go on with them`);
  process.kill(pid, 'SIGTERM');
  const until = performance.now() + EXCHANGE_MS;
  while (imageOf(pid) !== undefined) {
    if (performance.now() > until) throw new Refused(`process ${pid} does not end`);
    await pause(LOOK_MS);
  }
}
