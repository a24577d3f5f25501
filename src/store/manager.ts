/**
 * Queries the service manager about this process's unit: whether it stores descriptors, and how many. A child runs systemctl, so the
 * daemon serves while the manager is busy. The count must be queried because the manager never reports that a store is full: with a
 * limit of 20 it accepted 40 messages without an error and stored 20 descriptors.
 */
import { outputOf } from '../posix/child.ts';
import { controlGroupsOf } from '../proc/processes.ts';

/** How long systemctl may take, in milliseconds. */
const LIMIT_MS = 10_000;

export interface StoreStatus {
  /** The unit's limit of stored descriptors; 0: it has no store. */
  readonly max: number;
  /** Descriptors stored. */
  readonly count: number;
  /** When the unit's previous process ended, in milliseconds of CLOCK_MONOTONIC; 0: there was none. */
  readonly ended: number;
}

/** A service, and the systemd that runs it. */
export interface Unit {
  readonly name: string;
  readonly manager: 'system' | 'user';
}

/** Parses /proc/PID/cgroup for the process's service; undefined when it is in none. A service may have groups below its unit's. */
export function unitOf(controlGroups: string): Unit | undefined {
  // cgroup v1: systemd's own hierarchy has this name. v2 has one hierarchy only.
  const path = /^\d+:name=systemd:(.*)$/m.exec(controlGroups)?.[1] ?? /^0::(.*)$/m.exec(controlGroups)?.[1] ?? '';
  const services = path.split('/').filter((part) => part.endsWith('.service'));
  const name = services.at(-1);
  if (name === undefined || /^user@\d+\.service$/.test(name)) return undefined;
  return { name, manager: services.some((part) => /^user@\d+\.service$/.test(part)) ? 'user' : 'system' };
}

/** This process's; undefined when it is in none, or when /proc does not report it, as without memory. */
export function ownUnit(): Unit | undefined {
  try {
    return unitOf(controlGroupsOf('self'));
  } catch {
    return undefined;
  }
}

/** Falls back to the package's unit name, because a manager other than systemd may create no control groups. */
export function unitWithStore(): Unit {
  return ownUnit() ?? { name: 'virtlockd.service', manager: 'system' };
}

/** Null when systemctl fails or times out. */
export async function askStore(unit: Unit): Promise<StoreStatus | null> {
  const properties = ['FileDescriptorStoreMax', 'NFileDescriptorStore', 'ActiveExitTimestampMonotonic'];
  const args = ['show', ...properties.map((name) => `--property=${name}`), unit.name];
  return parseStatus((await systemctl(LIMIT_MS, `--${unit.manager}`, ...args)) ?? '');
}

export function parseStatus(text: string): StoreStatus | null {
  const value = (name: string): number | undefined => {
    const found = new RegExp(`^${name}=(\\d+)$`, 'm').exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const max = value('FileDescriptorStoreMax');
  if (max === undefined) return null;
  return { max, count: value('NFileDescriptorStore') ?? 0, ended: (value('ActiveExitTimestampMonotonic') ?? 0) / 1000 };
}

/** See {@link outputOf}. @param limit in milliseconds */
export async function systemctl(limit: number, ...args: readonly string[]): Promise<string | undefined> {
  return outputOf('systemctl', args, limit);
}
