/** The daemon in numbers, and warnings for the operator. */
import { insist } from '../posix/insist.ts';
import { readFileSync } from 'node:fs';
import type { RefusedRestart, StatusInfo } from '../../xdr/programs/inquire.ts';
import type { StorageView } from '../storage/storages.ts';
import type { InquireHost, ServerView } from './host.ts';
import { tooLargeForC } from './state-size.ts';
import { isHeld } from '../lockspace/files.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { serverLossText } from '../lockspace/lock-watch.ts';
import { lossText } from '../lockspace/remote-files.ts';
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
    ...ownerReaper.overdue.slice(0, MAX_UNKILLABLE).map(({ text }) => text.slice(0, MAX_WARNING)),
    ...refusedText(inquiry.refusedRestart),
    ...host.storages.views.flatMap(hungText),
    ...lostTexts(lockspaces.remoteFiles?.lost ?? []),
    ...takenTexts(host.lockWatch.lost),
    ...(host.etcd?.engine.warnings ?? []).slice(0, MAX_UNKILLABLE).map((text) => text.slice(0, MAX_WARNING)),
  ];
  return { ...status, warnings };
}

function describeServer({ clientCount, maxClients, isFull }: ServerView<unknown>): StatusInfo['lockServer'] {
  return { clients: clientCount, maxClients, isFull };
}

/** The most owners that are named as unkillable, and the most bytes of each warning. */
const MAX_UNKILLABLE = 32;
const MAX_WARNING = 1000;

/** The most calls that are named of each storage. */
const MAX_CALLS = 5;

/** Storage that does not answer: since when, and which calls wait for it, for whom. */
function hungText({ name, hangsSince, calls }: StorageView): string[] {
  if (hangsSince === 0) return [];
  const named = calls.slice(0, MAX_CALLS).map(({ request, pid, since }) => {
    const path = request.path ?? 'a held file';
    return `${path}${pid === 0 ? '' : ` for owner ${pid}`} since ${timeText(since)}`;
  });
  const more = calls.length > MAX_CALLS ? `, and ${calls.length - MAX_CALLS} more` : '';
  const text = `the file system at ${name} does not answer since ${timeText(hangsSince)}: ${named.join(', ')}${more}`;
  return [text.slice(0, MAX_WARNING)];
}

/** Locks that the daemon's tables have, and the kernel has not. */
function lostTexts(lost: readonly Resource[]): string[] {
  const named = lost.slice(0, MAX_CALLS).map((resource) => `the ${lossText(resource)}`.slice(0, MAX_WARNING));
  return lost.length > MAX_CALLS ? [...named, `and ${lost.length - MAX_CALLS} more locks are lost so`] : named;
}

/** Locks that another host has, or may have had. */
function takenTexts(lost: readonly Resource[]): string[] {
  const now = lost.filter(({ file }) => file.loss?.regained === 0);
  const named = now.slice(0, MAX_CALLS).flatMap((resource) => {
    const { loss } = resource.file;
    return loss === null ? [] : [`the ${serverLossText(resource, loss)}`.slice(0, MAX_WARNING)];
  });
  return now.length > MAX_CALLS ? [...named, `and ${now.length - MAX_CALLS} more locks are lost`] : named;
}

function timeText(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
}

function refusedText(refused: RefusedRestart | null): string[] {
  if (refused === null) return [];
  return [`the re-execution of ${timeText(refused.time)} was refused: ${refused.reason}`];
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
    warnings.push(
      killing === 1
        ? '1 owner is being ended; its locks are held until its process is gone'
        : `${killing} owners are being ended; their locks are held until their processes are gone`,
    );
  return warnings;
}
