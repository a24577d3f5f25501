/**
 * The moment at which a C daemon survives SIGUSR1. It exits, with every lock lost, when a client is connected that has not
 * registered, and never answers a request that is under way. So newcomers are held back, it is waited until nobody is in between,
 * and only then it is signalled.
 */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram, type ClientRef } from '../../xdr/programs/admin.ts';
import { lockProgram } from '../../xdr/programs/lock.ts';
import { Client } from '../client/client.ts';
import { RemoteFailure } from '../client/errors.ts';
import { programOf } from '../proc/processes.ts';
import { imageStart, socketsOfDaemon } from './daemons.ts';
import { isCallError, Unsafe } from './errors.ts';
import { failpoint } from './failpoint.ts';
import { forgetLimits, type Limits, notedLimits, noteLimits, readLimits, setLimits } from './limits.ts';

/** How long to wait for the moment, in milliseconds. */
const QUIET_MS = 10_000;
const LOOK_MS = 100;

/** The oldest C daemon that hands over: 7.0.0 exits on SIGUSR1. What lies between is not known. */
export const OLDEST_C = 9_000_000n;

export interface CDaemon {
  readonly pid: number;
  readonly socket: string;
  readonly adminSocket: string;
  /** A directory that only its user writes to, for the note of what an interrupted run has to restore. */
  readonly notes: string;
}

/** libvirt's daemons connect for one request at a time: while such a connection is there, one is under way. */
const LIBVIRT = /^(?:libvirtd|virt(?:qemu|lxc|xen|ch|bhyve|vz)d)$/;

function isLibvirts(pid: number): boolean {
  try {
    return LIBVIRT.test(path.basename(programOf(pid)));
  } catch {
    // It has ended, or is in another pid namespace.
    return false;
  }
}

const lockServer = { server: { name: 'virtlockd' } };

async function clientsOf(admin: Client): Promise<ClientRef[]> {
  return (await admin.call(adminProgram, 'listClients', { ...lockServer, needResults: 1, flags: 0 })).clients;
}

/** The process at the other end; undefined when the daemon does not know, as the client has called nothing yet. */
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
 * Clients of a C daemon that have not registered. It tells nobody who has; but it does not know who a client is before that
 * one's first call, and the first call of everything that speaks this protocol is to register. After an exec it has
 * forgotten; but who was connected before that had registered, or it would not have come through.
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

/** Why the daemon must not be signalled now. */
async function obstacle(pid: number, admin: Client, force: boolean): Promise<string | undefined> {
  const [silent] = force ? [] : await silentClients(admin, pid);
  if (silent !== undefined) {
    return `client ${silent.id} is connected and has called nothing yet, which libvirt's lock daemon does not survive; virt-admin client-disconnect ends it`;
  }
  for (const client of await clientsOf(admin)) {
    const peer = await peerOf(admin, client);
    if (peer !== undefined && isLibvirts(peer)) {
      return `process ${peer} of libvirt's has a request under way`;
    }
  }
  return undefined;
}

/**
 * Calls `exchange` at such a moment, with newcomers held back until it has returned, and then restores their limits: after
 * an exchange this is also the first answer of the new program, on a connection from before.
 * @param force also while a client has called nothing
 * @throws Unsafe, what a call throws, and what `exchange` throws
 */
export async function atQuietMoment<T>(
  { pid, socket, adminSocket, notes }: CDaemon,
  force: boolean,
  exchange: (clients: number) => Promise<T>,
): Promise<T> {
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

/** Holds newcomers back and waits. Returns the number of clients. @throws Unsafe */
async function freeze(pid: number, admin: Client, force: boolean): Promise<number> {
  const until = performance.now() + QUIET_MS;
  for (;;) {
    const { length } = await clientsOf(admin);
    await setLimits(admin, { clients: length, unauthenticated: length });
    const why = await obstacle(pid, admin, force);
    // As many as the limit allows: nobody can have come since they were looked at.
    if (why === undefined && (await clientsOf(admin)).length === length) return length;
    if (performance.now() > until) throw new Unsafe(why ?? 'clients come and go');
    await pause(LOOK_MS);
  }
}

async function thaw(notes: string, pid: number, admin: Client, limits: Limits): Promise<void> {
  try {
    await setLimits(admin, limits);
    forgetLimits(notes, pid);
  } catch (error) {
    if (!isCallError(error)) throw error;
    // The daemon has ended, or the note stays for the next run: virtlockd-swap begins with it.
    process.stderr.write(`virtlockd-swap: process ${pid} keeps the lowered limits of a swap: ${error.message}\n`);
  }
}

/** Gives a daemon back the limits that an interrupted swap has taken. */
export async function restoreLimits(pid: number, notes: string): Promise<void> {
  const limits = notedLimits(notes, pid);
  const { adminSocket } = socketsOfDaemon(pid);
  if (limits === undefined || adminSocket === undefined) return;
  const admin = await Client.connect(adminSocket);
  await thaw(notes, pid, admin, limits);
  admin.close();
}
