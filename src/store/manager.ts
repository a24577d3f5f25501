/**
 * What the service manager says of the unit that this process is: whether it keeps descriptors, and how many. It is asked by a child,
 * which nobody waits for but who wants to know: it may be busy, or gone. A message that it has processed tells nothing: of 40
 * descriptors it stored 20, when that was its limit, and said so to nobody.
 */
import type { ChildProcess } from 'node:child_process';
import { controlGroupsOf } from '../proc/processes.ts';

/** For how long an answer is waited for, in milliseconds. */
const LIMIT_MS = 10_000;

export interface StoreStatus {
  /** How many descriptors the unit may have; 0: it has no store. */
  readonly max: number;
  /** How many it has. */
  readonly count: number;
  /** When the process before this one ended, in milliseconds of the monotonic clock; 0: there was none. */
  readonly ended: number;
}

/** A service, and the systemd that runs it. */
export interface Unit {
  readonly name: string;
  readonly manager: 'system' | 'user';
}

/**
 * The service that a process is part of, by its control groups; undefined when it is in none. A service may have groups of its own
 * below its unit's.
 */
export function unitOf(controlGroups: string): Unit | undefined {
  // Of version 1 the hierarchy of that name is systemd's own; of version 2 there is only one.
  const path = /^\d+:name=systemd:(.*)$/m.exec(controlGroups)?.[1] ?? /^0::(.*)$/m.exec(controlGroups)?.[1] ?? '';
  const services = path.split('/').filter((part) => part.endsWith('.service'));
  const name = services.at(-1);
  if (name === undefined || /^user@\d+\.service$/.test(name)) return undefined;
  return { name, manager: services.some((part) => /^user@\d+\.service$/.test(part)) ? 'user' : 'system' };
}

/** By the name that the package gives it where the control groups do not tell: a manager that is not systemd may have none. */
export function ownUnit(): Unit {
  return unitOf(controlGroupsOf('self')) ?? { name: 'virtlockd.service', manager: 'system' };
}

/** Null when there is no answer. */
export async function askStore(unit: Unit): Promise<StoreStatus | null> {
  const properties = ['FileDescriptorStoreMax', 'NFileDescriptorStore', 'ActiveExitTimestampMonotonic'];
  const args = [`--${unit.manager}`, 'show', ...properties.map((name) => `--property=${name}`), unit.name];
  return parseStatus((await outputOf('systemctl', args)) ?? '');
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

/** What a program prints that ends well and in time; else null. */
async function outputOf(program: string, args: readonly string[]): Promise<string | null> {
  // Loaded here: it takes milliseconds, which a daemon that has just been executed does not have.
  const { spawn } = process.getBuiltinModule('node:child_process');
  return new Promise((resolve) => {
    let child: ChildProcess;
    try {
      child = spawn(program, args, { cwd: '/', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      resolve(null);
      return;
    }
    let output = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout?.destroy();
      resolve(null);
    }, LIMIT_MS);
    timer.unref();
    child.stdout?.setEncoding('latin1').on('data', (chunk: string) => (output += chunk));
    child.on('error', () => {
      clearTimeout(timer);
      resolve(null);
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve(status === 0 ? output : null);
    });
  });
}
