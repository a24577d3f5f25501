/**
 * Waits for a moment at which a C daemon survives SIGUSR1. It exits, and loses every lock, if a client is connected that has
 * not registered, and it never answers a request under way. So this holds newcomers back, and waits for both to end.
 */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram, type ClientRef } from '../../xdr/programs/admin.ts';
import { lockProgram } from '../../xdr/programs/lock.ts';
import { Client } from '../client/client.ts';
import { RemoteFailure } from '../client/errors.ts';
import { programOf, usersOf } from '../proc/processes.ts';
import { imageStart, type LockDaemon, socketsOfDaemon } from './daemons.ts';
import { isCallError, Unsafe } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { forgetLimits, type Limits, notedLimits, noteLimits, readLimits, setLimits } from './limits.ts';

/** How long to wait for that moment, in milliseconds. */
const QUIET_MS = 10_000;
const POLL_MS = 100;

/** The oldest C daemon that hands over. 7.0.0 exits on SIGUSR1; versions in between were not tried. */
export const OLDEST_C = 9_000_000n;

interface CDaemon {
  readonly pid: number;
  readonly socket: string;
  readonly adminSocket: string;
  /** See {@link Exchange.notes}. */
  readonly notes: string;
}

/** libvirt's daemons connect for one request at a time. While one is connected, a request is under way. */
const LIBVIRT = /^(?:libvirtd|virt(?:qemu|lxc|xen|ch|bhyve|vz)d)$/;

/** By its name, which any process can have, and by its user, which is the lock daemon's. A guest's process has another. */
function isLibvirts(pid: number, daemon: number): boolean {
  try {
    return LIBVIRT.test(path.basename(programOf(pid))) && usersOf(pid).join() === usersOf(daemon).join();
  } catch {
    // The process has ended, or is in another pid namespace.
    return false;
  }
}

const lockServer = { server: { name: 'virtlockd' } };

async function clientsOf(admin: Client): Promise<ClientRef[]> {
  return (await admin.call(adminProgram, 'listClients', { ...lockServer, needResults: 1, flags: 0 })).clients;
}

/** The client's process; undefined if the client has not called yet, because the daemon then does not know it. */
async function peerOf(admin: Client, client: ClientRef): Promise<number | undefined> {
  try {
    const { params } = await admin.call(adminProgram, 'getClientInfo', { client, flags: 0 });
    const pid = params.find(({ field }) => field === 'unix_process_id')?.value.value;
    return typeof pid === 'number' ? pid : 0;
  } catch (error) {
    if (!(error instanceof RemoteFailure)) throw error;
    return undefined;
  }
}

/**
 * Clients of a C daemon that have not registered. The daemon does not report that. But it does not know a client's process
 * before the client's first call, and every client first calls REGISTER. An exec makes the daemon forget the processes; but
 * it survives an exec only if every client had registered.
 * @param pid of the daemon
 */
export async function silentClients(admin: Client, pid: number): Promise<ClientRef[]> {
  const began = imageStart(pid);
  const silent: ClientRef[] = [];
  for (const client of await clientsOf(admin)) {
    if (Number(client.timestamp) >= began && (await peerOf(admin, client)) === undefined) silent.push(client);
  }
  return silent;
}

/** Why the daemon must not be signalled now, if so. */
async function obstacle(pid: number, admin: Client, force: boolean): Promise<string | undefined> {
  const [silent] = force ? [] : await silentClients(admin, pid);
  if (silent !== undefined) {
    return `client ${silent.id} is connected and has not called yet, which libvirt's lock daemon does not survive: close it by virt-admin client-disconnect`;
  }
  for (const client of await clientsOf(admin)) {
    const peer = await peerOf(admin, client);
    if (peer !== undefined && isLibvirts(peer, pid)) {
      return `libvirt's process ${peer} has a request under way`;
    }
  }
  return undefined;
}

/**
 * Calls `exchange` at such a moment, and holds newcomers back until it returns. Then restores the limits, which shows that
 * the new program answers on a connection from before.
 * @param force do not wait for clients that have not called
 * @throws Unsafe, and what a call or `exchange` throws
 */
export async function atQuietMoment<T>(
  { pid, socket, adminSocket, notes }: CDaemon,
  force: boolean,
  exchange: (clients: number) => Promise<T>,
): Promise<T> {
  const admin = await Client.connect(adminSocket);
  // A limit of 0 cannot be set, so there must be a client: this one, registered, without locks.
  const own = await Client.connect(socket);
  try {
    const { version } = await admin.call(adminProgram, 'getLibVersion', undefined);
    if (version < OLDEST_C) {
      throw new Unsafe('it is older than libvirt 9.0.0, and would exit on SIGUSR1');
    }
    const owner = { uuid: Buffer.alloc(16, 0xff), name: 'virtlockd-swap', id: process.pid, pid: process.pid };
    await own.call(lockProgram, 'register', { owner, flags: 0 });
    const limits = notedLimits(notes, pid) ?? (await readLimits(admin));
    try {
      noteLimits(notes, pid, limits);
      failpoint('noted');
      return await exchange(await freeze(pid, admin, force));
    } finally {
      await thaw(notes, pid, admin, limits);
    }
  } finally {
    own.close();
    admin.close();
  }
}

/** Holds newcomers back and waits for the moment. Returns the number of clients. @throws Unsafe */
async function freeze(pid: number, admin: Client, force: boolean): Promise<number> {
  const until = performance.now() + QUIET_MS;
  for (;;) {
    const { length } = await clientsOf(admin);
    await setLimits(admin, { clients: length, unauthenticated: length });
    const why = await obstacle(pid, admin, force);
    // With as many clients as the limit allows, no other can have come since the check.
    if (why === undefined && (await clientsOf(admin)).length === length) return length;
    if (performance.now() > until) throw new Unsafe(why ?? 'clients come and go');
    await pause(POLL_MS);
  }
}

async function thaw(notes: string, pid: number, admin: Client, limits: Limits): Promise<void> {
  try {
    await setLimits(admin, limits);
    forgetLimits(notes, pid);
  } catch (error) {
    if (!isCallError(error)) throw error;
    // The daemon has ended, or the next run of virtlockd-swap restores the limits from the note.
    process.stderr.write(`virtlockd-swap: process ${pid} keeps the lowered limits of a swap: ${error.message}\n`);
  }
}

/** Restores the limits that an interrupted swap has lowered. */
export async function restoreLimits({ pid, uid }: LockDaemon, notes: string): Promise<void> {
  const limits = notedLimits(notes, pid);
  if (limits === undefined) return;
  const { adminSocket } = socketsOfDaemon(pid, uid);
  if (adminSocket === undefined) return;
  const admin = await Client.connect(adminSocket);
  await thaw(notes, pid, admin, limits);
  admin.close();
}
