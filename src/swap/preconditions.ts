/** What must be so before the package exchanges a daemon. C looks at nothing beforehand, and exits with every lock lost. */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { PROGRAM } from '../libvirt/paths.ts';
import { openDescriptors } from '../proc/descriptors.ts';
import { statusOf } from '../proc/processes.ts';
import { EMPTY_STATE } from '../restart/empty-state.ts';
import { type LockDaemon, resolveProgram, sameFile } from './daemons.ts';
import { lackOfDescriptors } from './descriptors.ts';
import { Refused, Unsafe } from './errors.ts';
import { EXCHANGE_MS } from './exchange.ts';

/** Preconditions that do not change while one waits. @throws Unsafe */
export function checkProcess({ pid, argv0 }: LockDaemon): void {
  const started = resolveProgram(pid, argv0);
  if (started === undefined || !sameFile(`/proc/${pid}/root${started}`, PROGRAM)) {
    throw new Unsafe(`it was started as '${argv0}', which is not ${PROGRAM}`);
  }
  // Filters stay across exec, and what a program of libvirt's is allowed may not be enough for ours. A container's, which
  // its first process is under, too, are none of the unit's.
  const [its = 0, ours = 0, container = 0] = [pid, process.pid, 1].map((process) =>
    Number(statusOf(process, 'Seccomp_filters') ?? 0),
  );
  if (its > Math.max(ours, container)) throw new Unsafe('its system calls are filtered');
}

/** The program at the daemon's path must run here at all, and read a state. @throws Refused */
export function proveProgram(): void {
  const file = `/run/virtlockd-swap-${process.pid}.state`;
  try {
    writeFileSync(file, JSON.stringify(EMPTY_STATE), { mode: 0o600 });
    execFileSync(PROGRAM, ['--check-state', file], { stdio: ['ignore', 'pipe', 'pipe'], timeout: EXCHANGE_MS });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    const said = `${String(stderr ?? '')}${String(stdout ?? '')}`.trim();
    throw new Refused(`${PROGRAM} does not run: ${said === '' ? (error as Error).message : said}`);
  } finally {
    rmSync(file, { force: true });
  }
}

/** C exits when it cannot write its state: as much as that may take must be free where it is written. @throws Unsafe */
export function checkSpace(pid: number, clients: number): void {
  const file = `/run/virtlockd-swap-${pid}.space`;
  try {
    const bytes = 65536 + 4096 * (clients + openDescriptors(pid).length);
    writeFileSync(file, Buffer.alloc(bytes, ' '), { mode: 0o600 });
  } catch (error) {
    throw new Unsafe(`there is no room for its state in /run: ${(error as Error).message}`);
  } finally {
    rmSync(file, { force: true });
  }
}

/** Our runtime aborts when it finds too few descriptors free, and C ends when it cannot write its state. @throws Unsafe */
export function checkDescriptors(pid: number): void {
  const lack = lackOfDescriptors(pid);
  if (lack !== undefined) throw new Unsafe(lack);
}
