/**
 * What the service manager says of the unit that this process is: whether it keeps descriptors, and how many. It is asked by a child,
 * which nobody waits for but who wants to know: it may be busy, or gone. A message that it has processed tells nothing: of 40
 * descriptors it stored 20, when that was its limit, and said so to nobody.
 */
import { readFileSync } from 'node:fs';
import type { ChildProcess } from 'node:child_process';

/** For how long an answer is waited for, in milliseconds. */
const LIMIT_MS = 10_000;

export interface StoreStatus {
  /** How many descriptors the unit may have; 0: it has no store. */
  readonly max: number;
  /** How many it has. */
  readonly count: number;
}

/** A unit, and the manager that it belongs to. */
export interface Unit {
  readonly name: string;
  readonly isUsers: boolean;
}

/** The unit that a process is in by its control group; where that does not tell, by the name that the package gives it. */
export function unitOf(cgroup: string, fallback = 'virtlockd.service'): Unit {
  const paths = [...cgroup.matchAll(/^\d+:(?:name=systemd)?:(.*)$/gm)].map(([, path = '']) => path.split('/'));
  const names =
    paths.map((parts) => parts.filter((part) => part.endsWith('.service'))).find(({ length }) => length > 0) ?? [];
  const users = names.findIndex((name) => /^user@\d+\.service$/.test(name));
  const name = names.at(-1);
  if (name === undefined || (users >= 0 && users === names.length - 1)) return { name: fallback, isUsers: false };
  return { name, isUsers: users >= 0 };
}

export function ownUnit(): Unit {
  try {
    return unitOf(readFileSync('/proc/self/cgroup', 'latin1'));
  } catch {
    return unitOf('');
  }
}

/** Null when there is no answer. */
export async function askStore(unit: Unit): Promise<StoreStatus | null> {
  const properties = ['FileDescriptorStoreMax', 'NFileDescriptorStore'];
  const args = [
    ...(unit.isUsers ? ['--user'] : []),
    'show',
    ...properties.map((name) => `--property=${name}`),
    unit.name,
  ];
  return parseStatus((await outputOf('systemctl', args)) ?? '');
}

export function parseStatus(text: string): StoreStatus | null {
  const value = (name: string): number | undefined => {
    const found = new RegExp(`^${name}=(\\d+)$`, 'm').exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const max = value('FileDescriptorStoreMax');
  return max === undefined ? null : { max, count: value('NFileDescriptorStore') ?? 0 };
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
