/** Has a running lock daemon execute the program at its path, and waits until it has. */
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { Client } from '../client/client.ts';
import { ConnectionLost } from '../client/errors.ts';
import { imageOf } from '../proc/processes.ts';
import { PROOF_TIME } from '../restart/proof-time.ts';
import { type Kind, leasesOf } from './daemons.ts';
import { Lost, Refused, Unsafe } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { awaitRegistered, watchRefusals } from './own-daemon.ts';
import { atQuietMoment } from './quiet.ts';

/**
 * Milliseconds for the exchange. Ours proves its successor first, and then may wait for its start, its storage and the service manager.
 * Whoever gives up sooner puts the former program back while the daemon goes on to execute the new one. libvirt's executes at once, and
 * newcomers are held back until it has.
 */
export const EXCHANGE_MS: Readonly<Record<Kind, number>> = { own: PROOF_TIME.longest + 30_000, libvirt: 25_000 };
/** Milliseconds that a daemon may take to end. */
const END_MS = 25_000;
const POLL_MS = 10;

export interface Exchange {
  readonly pid: number;
  /** Its kind before the exchange. */
  readonly kind: Kind;
  readonly socket: string | undefined;
  readonly adminSocket: string | undefined;
  /** A directory that only the daemon's user can write to, for the limits that an interrupted run must restore. */
  readonly notes: string;
  /** Its lock need not stay. */
  readonly pidFile?: string;
  /** Signals libvirt's daemon even if a client has not called yet. */
  readonly force: boolean;
  /** Every client of our daemon must register before the exchange. `force` closes the others. */
  readonly registered?: boolean;
  /** Called before libvirt's daemon is signalled, with the number of its clients. An exception prevents the exchange. */
  check?(clients: number): void;
}

export interface Report {
  /** The locks before and after, as {@link leasesOf} has them. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  /** Locks that are gone. Normally their owners have ended during the exchange. */
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

/** Signals libvirt's daemon at a moment when it survives that. Returns its locks before the exchange. */
async function exchangeLibvirts({ socket, adminSocket, ...daemon }: Exchange): Promise<string[]> {
  const { pid, pidFile, force } = daemon;
  if (socket === undefined || adminSocket === undefined) throw new Unsafe('it does not listen at its two sockets');
  return atQuietMoment({ ...daemon, socket, adminSocket }, force, async (clients) => {
    daemon.check?.(clients);
    failpoint('frozen');
    const before = leasesOf(pid, pidFile);
    await execute(pid, EXCHANGE_MS.libvirt);
    return before;
  });
}

/** Signals our daemon, which itself proves the program at its path, and refuses it if it cannot take over. Returns as above. */
async function exchangeOwn({ pid, adminSocket, pidFile, registered, force }: Exchange): Promise<string[]> {
  const before = leasesOf(pid, pidFile);
  const admin = adminSocket === undefined ? undefined : await connectAdmin(adminSocket);
  try {
    if (registered === true && admin !== undefined) await awaitRegistered(admin, force);
    await execute(pid, EXCHANGE_MS.own, admin === undefined ? undefined : await watchRefusals(admin));
  } finally {
    admin?.close();
  }
  if (adminSocket !== undefined) await untilServed(adminSocket);
  return before;
}

/** A connection on which the daemon has answered; undefined if it runs as another user, and so refuses this one. */
async function connectAdmin(socket: string): Promise<Client | undefined> {
  const admin = await Client.connect(socket);
  try {
    await admin.call(adminProgram, 'getLibVersion', undefined);
    return admin;
  } catch (error) {
    admin.close();
    // The daemon accepts the connection of another user, and then closes it.
    if (error instanceof ConnectionLost) return undefined;
    throw error;
  }
}

/** Waits until the new program serves. */
async function untilServed(socket: string): Promise<void> {
  try {
    (await connectAdmin(socket))?.close();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
  }
}

/**
 * Signals a process and waits until it has executed a program.
 * @param limit in milliseconds
 * @param refusal why the daemon has refused, once it has
 * @throws Refused when it does not execute one, Lost when the process ends
 */
async function execute(pid: number, limit: number, refusal: () => string | undefined = () => undefined): Promise<void> {
  const before = imageOf(pid);
  process.kill(pid, 'SIGUSR1');
  failpoint('signalled');
  const until = performance.now() + limit;
  for (;;) {
    const now = imageOf(pid);
    if (now === undefined) throw new Lost(`process ${pid} has ended, and its locks with it`);
    if (now !== before) break;
    const reason = refusal();
    if (reason !== undefined) throw new Refused(`process ${pid} refuses the new program: ${reason}`);
    if (performance.now() > until) {
      throw new Refused(`process ${pid} has not executed the new program within ${limit / 1000} s`);
    }
    await pause(POLL_MS);
  }
  failpoint('exchanged');
}

/** Ends a daemon without locks. @throws Unsafe when it holds one, Refused when it does not end */
export async function end(pid: number, pidFile: string): Promise<void> {
  const held = leasesOf(pid, pidFile).length;
  if (held > 0)
    throw new Unsafe(
      `it holds ${held} ${held === 1 ? 'lock' : 'locks'}, and there is no other lock daemon to take over`,
    );
  process.kill(pid, 'SIGTERM');
  const until = performance.now() + END_MS;
  while (imageOf(pid) !== undefined) {
    if (performance.now() > until) throw new Refused(`process ${pid} does not end`);
    await pause(POLL_MS);
  }
}
