/** The daemon in numbers, and warnings for the operator. */
import { insist } from '../posix/insist.ts';
import { readFileSync } from 'node:fs';
import type { RefusedRestart, StatusInfo } from '../../xdr/programs/inquire.ts';
import type { InquireHost, ServerView } from './host.ts';
import { tooLargeForC } from './state-size.ts';
import { isHeld } from '../lockspace/files.ts';
import { installRoot } from '../posix/root.ts';
import { ownDescriptorCount } from '../proc/descriptors.ts';

/** The part of a limit at which warnings begin. */
const NEARLY = 0.9;

let implementation: string | undefined;

function implementationName(): string {
  if (implementation !== undefined) return implementation;
  let version = '';
  const file = `${installRoot}/package.json`;
  try {
    // Its close would drop the lock of a held resource.
    if (isHeld(file)) return 'virtlockd-node';
    const { version: found } = JSON.parse(readFileSync(file, 'utf8')) as { version?: unknown };
    if (typeof found === 'string') version = ` ${found}`;
  } catch {
    // The name says enough.
  }
  implementation = `virtlockd-node${version}`;
  return implementation;
}

/** @param atLeast the result where the kernel does not report the number */
function openDescriptors(atLeast: number): number {
  try {
    return ownDescriptorCount() || atLeast;
  } catch {
    return atLeast;
  }
}

export function describeStatus(host: InquireHost): StatusInfo {
  const { lockspaces, life, inquiry, ownerReaper } = host;
  const [lockServer, adminServer] = [describeServer(host.servers[0]), describeServer(host.servers[1])];
  const locks = lockspaces.count;
  const clients = lockServer.clients + adminServer.clients;
  const status: StatusInfo = {
    libvirtVersion: host.dialect.version,
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
    killing: ownerReaper.count,
    subscribers: inquiry.subscriptions.count,
    descriptors: openDescriptors(locks + clients + 32),
    descriptorLimit: Number.isFinite(host.descriptorLimit) ? host.descriptorLimit : 0,
    residentMemory: insist(() => process.memoryUsage.rss()),
    warnings: [],
  };
  const warnings = [
    ...warningsOf(status),
    ...memoryWarning(lockspaces.memory),
    ...ownerReaper.overdue.slice(0, UNKILLABLE_MAX).map(({ text }) => text.slice(0, WARNING_MAX)),
    ...refusedText(inquiry.refusedRestart),
  ];
  return { ...status, warnings };
}

function describeServer({ clientCount, maxClients, isFull }: ServerView<unknown>): StatusInfo['lockServer'] {
  return { clients: clientCount, maxClients, isFull };
}

/** The most owners that are named as unkillable, and the most bytes of each warning. */
const UNKILLABLE_MAX = 32;
const WARNING_MAX = 1000;

function refusedText(refused: RefusedRestart | null): string[] {
  if (refused === null) return [];
  const time = new Date(refused.time).toISOString().replace(/\.\d+Z$/, 'Z');
  return [`the re-execution of ${time} was refused: ${refused.reason}`];
}

function memoryWarning({ used, most }: InquireHost['lockspaces']['memory']): string[] {
  return used < most * NEARLY ? [] : [`the locks take ${used} of at most ${most} bytes of memory: more are refused`];
}

/** One line for each problem. */
function warningsOf(status: StatusInfo): string[] {
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
