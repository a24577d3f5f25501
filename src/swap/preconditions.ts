/** The package's checks before an exchange. A C daemon makes none: it exits, and every lock is lost. */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { PROGRAM } from '../libvirt/paths.ts';
import { openDescriptors } from '../proc/descriptors.ts';
import { statusOf } from '../proc/processes.ts';
import { EMPTY_STATE } from '../restart/empty-state.ts';
import { PROOF_TIME } from '../restart/proof-time.ts';
import { type LockDaemon, resolveProgram, sameFile } from './daemons.ts';
import { lackOfDescriptors } from './descriptors.ts';
import { lackOfPermission } from './domain.ts';
import { Refused, Unsafe } from './errors.ts';

/** Checks that waiting does not change. @throws Unsafe */
export function checkProcess({ pid, argv0 }: LockDaemon): void {
  const started = resolveProgram(pid, argv0);
  if (started === undefined || !sameFile(`/proc/${pid}/root${started}`, PROGRAM)) {
    throw new Unsafe(`it was started as '${argv0}', which is not ${PROGRAM}`);
  }
  // Seccomp filters stay across exec, and those of libvirt's unit may be too strict for our program. Filters that the first
  // process also has are the container's.
  const [its = 0, ours = 0, container = 0] = [pid, process.pid, 1].map((process) =>
    Number(statusOf(process, 'Seccomp_filters') ?? 0),
  );
  if (its > Math.max(ours, container))
    throw new Unsafe(
      "its system calls are filtered. If this package's unit has started it, before the package was removed, the filter is right for this program: systemctl reload virtlockd.service",
    );
  const lack = lackOfPermission(pid, PROGRAM);
  if (lack !== undefined) throw new Unsafe(lack);
}

/** Checks that the program at the daemon's path runs here, and reads a state. @throws Refused */
export function proveProgram(): void {
  const file = `/run/virtlockd-swap-${process.pid}.state`;
  try {
    writeFileSync(file, JSON.stringify(EMPTY_STATE), { mode: 0o600 });
    execFileSync(PROGRAM, ['--check-state', file], { stdio: ['ignore', 'pipe', 'pipe'], timeout: PROOF_TIME.longest });
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    const said = `${String(stderr ?? '')}${String(stdout ?? '')}`.trim();
    throw new Refused(`${PROGRAM} does not run: ${said === '' ? (error as Error).message : said}`);
  } finally {
    rmSync(file, { force: true });
  }
}

/** Checks the room for the state: a C daemon that cannot write it exits. @throws Unsafe */
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

/** Our runtime aborts with too few free descriptors, and a C daemon without one for its state exits. @throws Unsafe */
export function checkDescriptors(pid: number): void {
  const lack = lackOfDescriptors(pid);
  if (lack !== undefined) throw new Unsafe(lack);
}
