/** How the daemon is, in numbers, and what an operator should be warned of. */
import { insist } from '../posix/insist.ts';
import { readFileSync, statSync } from 'node:fs';
import type { RefusedRestart, StatusInfo } from '../../xdr/programs/inquire.ts';
import type { InquireHost } from './host.ts';
import type { Inquiry } from './inquiry.ts';
import { tooLargeForC } from './state-size.ts';
import { isHeld } from '../lockspace/files.ts';
import { installRoot } from '../posix/root.ts';

/** The part of a limit from which on it is warned of. */
const NEARLY = 0.9;

let implementation: string | undefined;

function implementationName(): string {
  if (implementation !== undefined) return implementation;
  let version = '';
  const file = `${installRoot}/package.json`;
  try {
    // Closed again, one that is held as a resource would lose its lock.
    if (isHeld(file)) return 'virtlockd-node';
    const { version: found } = JSON.parse(readFileSync(file, 'utf8')) as { version?: unknown };
    if (typeof found === 'string') version = ` ${found}`;
  } catch {
    // A tree that was packaged without it.
  }
  implementation = `virtlockd-node${version}`;
  return implementation;
}

/** The size of this directory is the number of descriptors, since Linux 6.2; before it is 0, and they are counted up. */
function openDescriptors(atLeast: number): number {
  try {
    return statSync('/proc/self/fd').size || atLeast;
  } catch {
    return atLeast;
  }
}

export function describeStatus(host: InquireHost, { subscriptions, refusedRestart }: Inquiry): StatusInfo {
  const { lockspaces, life } = host;
  const [lockServer, adminServer] = host.servers.map(({ clients, maxClients, isFull }) => ({
    clients: clients.size,
    maxClients,
    isFull,
  }));
  if (lockServer === undefined || adminServer === undefined) throw new Error('a daemon without servers');
  const locks = lockspaces.count;
  const clients = lockServer.clients + adminServer.clients;
  const status: StatusInfo = {
    libvirtVersion: host.version,
    implementation: implementationName(),
    pid: process.pid,
    program: life.program,
    started: life.started,
    executed: life.executed,
    restarts: life.restarts,
    lockServer,
    adminServer,
    lockspaces: 1 + lockspaces.byPath.size,
    locks,
    owners: lockspaces.ownerCount,
    killing: host.killing(),
    subscribers: subscriptions.count,
    descriptors: openDescriptors(locks + clients + 32),
    descriptorLimit: Number.isFinite(host.descriptorLimit) ? host.descriptorLimit : 0,
    residentMemory: insist(() => process.memoryUsage.rss()),
    warnings: [],
  };
  const warnings = [
    ...warningsOf(status),
    ...memoryWarning(lockspaces.memory),
    ...host.unkillable().slice(0, UNKILLABLE_MOST),
    ...refusedText(refusedRestart),
  ];
  return { ...status, warnings };
}

/** So many owners that could not be ended are named. */
const UNKILLABLE_MOST = 32;

function refusedText(refused: RefusedRestart | null): string[] {
  if (refused === null) return [];
  const time = new Date(refused.time).toISOString().replace(/\.\d+Z$/, 'Z');
  return [`the re-execution of ${time} was refused: ${refused.reason}`];
}

function memoryWarning({ used, most }: InquireHost['lockspaces']['memory']): string[] {
  return used < most * NEARLY ? [] : [`the locks take ${used} of at most ${most} bytes of memory: more are refused`];
}

/** One line for everything that calls for the operator. */
export function warningsOf(status: StatusInfo): string[] {
  const { lockServer, adminServer, descriptors, descriptorLimit, killing } = status;
  const warnings: string[] = [];
  for (const [name, { clients, maxClients, isFull }] of Object.entries({ virtlockd: lockServer, admin: adminServer })) {
    if (isFull) warnings.push(`server ${name} takes no more clients (${clients} of ${maxClients}): newcomers wait`);
    else if (clients >= maxClients * NEARLY) {
      warnings.push(`server ${name} has ${clients} of at most ${maxClients} clients`);
    }
  }
  if (descriptorLimit > 0 && descriptors >= descriptorLimit * NEARLY) {
    warnings.push(`${descriptors} of ${descriptorLimit} descriptors are open: every lock and every client takes one`);
  }
  const tooLarge = tooLargeForC(status);
  if (tooLarge !== undefined) warnings.push(tooLarge);
  if (killing > 0)
    warnings.push(`${killing} owners are being ended; their locks are held until their processes are gone`);
  return warnings;
}
