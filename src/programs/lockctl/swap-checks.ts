/** What must be so before a swap. A C daemon looks at nothing beforehand, and exits with every lock lost: so this does. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { adminProgram } from '../../../xdr/programs/admin.ts';
import { tooLargeForC } from '../../inquire/state-size.ts';
import { parseVersion } from '../../libvirt/dialect.ts';
import { MAX_FILE } from '../../libvirt/limits.ts';
import { commandLineOf, programOf } from '../../proc/processes.ts';
import { type Kind, leasesOf, resolveProgram } from '../../swap/daemons.ts';
import { lackOfDescriptors } from '../../swap/descriptors.ts';
import { unregisteredClients } from '../../swap/own-daemon.ts';
import { kindOf } from '../../swap/program.ts';
import { OLDEST_C, silentClients } from '../../swap/quiet.ts';
import { toBytes, toPath } from './context.ts';
import { formatVersion, type InquireClient } from './inquire-client.ts';
import { CommandError, Exit } from './exit.ts';
import { findObstacle } from './kernel/holders.ts';

export interface Check {
  readonly ok: boolean;
  readonly what: string;
  readonly detail: string;
}

/** The daemon that runs. */
export interface Running {
  readonly kind: Kind;
  /** The libvirt version that it reports. */
  readonly version: string;
  readonly pid: number;
  /** The path that SIGUSR1 executes. */
  readonly program: string;
}

const PROVE_MS = 10_000;
/** @throws CommandError when nobody answers, or it cannot be told which process it is */
export async function describeRunning(daemon: InquireClient): Promise<Running> {
  const version = await libvirtVersion(daemon);
  if (await daemon.answersInquiries()) {
    const { pid, program } = await daemon.status();
    return { kind: 'own', version, pid, program: toPath(program).toString() };
  }
  const pid = pidOf(daemon.target.pidFile);
  const program = resolveProgram(pid, commandLineOf(pid)[0] ?? '') ?? programOf(pid);
  return { kind: 'libvirt', version, pid, program: toPath(program).toString() };
}

/** The version that it reports to virt-admin, as `X.Y.Z`; C daemons answer this, too. */
async function libvirtVersion(daemon: InquireClient): Promise<string> {
  const client = await daemon.adminClient();
  try {
    await client.call(adminProgram, 'open', { flags: 0 });
    const { version } = await client.call(adminProgram, 'getLibVersion', undefined);
    return formatVersion(Number(version));
  } catch (error) {
    throw await daemon.explain(error);
  }
}

/** The process that has locked the pid file. */
function pidOf(file: string): number {
  const { lock, failure } = findObstacle(toBytes(file), false);
  if (lock !== null && lock.pid > 0) return lock.pid;
  throw new CommandError(Exit.NO, `cannot tell which process the daemon is: ${file} ${failure ?? 'is locked by none'}`);
}

export async function checksBefore(daemon: InquireClient, running: Running, target: string): Promise<Check[]> {
  const { pid, program, kind, version } = running;
  const toC = kindOf(target) === 'libvirt';
  const runDirectory = path.dirname(daemon.target.stateFile);
  const checks = [
    attempt('the process may be signalled', () => {
      process.kill(pid, 0);
      return `pid ${pid}`;
    }),
    attempt('its program can be replaced', () => {
      accessSync(path.dirname(program), constants.W_OK);
      return program;
    }),
    await proveProgram(target),
    attempt('the run directory has room for the state', () => {
      const { bavail, bsize } = statfsSync(runDirectory);
      if (bavail * bsize < MAX_FILE) throw new Error(`only ${bavail * bsize} bytes are free in ${runDirectory}`);
      return `${Math.floor((bavail * bsize) / 1024 / 1024)} MiB free in ${runDirectory}`;
    }),
    attempt('no state of an earlier restart is left', () => {
      if (existsSync(daemon.target.stateFile)) throw new Error(daemon.target.stateFile);
      return '';
    }),
  ];
  if (kind === 'libvirt') {
    const number = parseVersion(version) ?? 0;
    checks.push(
      attempt('this version of the C daemon can hand over', () => {
        if (number < OLDEST_C)
          throw new Error(`${version} exits on SIGUSR1 and loses every lock: restart it with no guest running`);
        return version;
      }),
      await checkClients(daemon, pid),
      attempt('as many descriptors are free as the new program needs', () => {
        const lack = toC ? undefined : lackOfDescriptors(pid);
        if (lack !== undefined) throw new Error(lack);
        return '';
      }),
    );
  } else if (toC) {
    const unregistered = await unregisteredClients(await daemon.adminClient());
    checks.push({
      ok: unregistered.length === 0,
      what: 'every client has registered, so that the C daemon can hand over again',
      detail: unregistered.map(({ id, pid }) => `client ${id} (pid ${pid}) has not`).join(', '),
    });
    const tooLarge = tooLargeForC(await daemon.status());
    checks.push({
      ok: tooLarge === undefined,
      what: 'the state is small enough for a C daemon',
      detail: tooLarge ?? '',
    });
  }
  checks.push({ ok: true, what: 'locks that the kernel knows of', detail: String(leasesOf(pid).length) });
  return checks;
}

function attempt(what: string, check: () => string): Check {
  try {
    return { ok: true, what, detail: check() };
  } catch (error) {
    return { ok: false, what, detail: (error as Error).message };
  }
}

/** Whether it runs at all, and says to be a virtlockd: a C daemon executes whatever is there. */
async function proveProgram(target: string): Promise<Check> {
  const what = 'the new program runs';
  const { execFile } = process.getBuiltinModule('node:child_process');
  return new Promise((resolve) => {
    execFile(target, ['--version'], { timeout: PROVE_MS, killSignal: 'SIGKILL' }, (error, output) => {
      const version = /\(libvirt\) (\d+\.\d+\.\d+)/.exec(output)?.[1];
      if (error === null && version !== undefined) resolve({ ok: true, what, detail: `says to be libvirt ${version}` });
      else resolve({ ok: false, what, detail: error?.message ?? 'it does not say to be a virtlockd' });
    });
  });
}

async function checkClients(daemon: InquireClient, pid: number): Promise<Check> {
  const what = 'every client has registered, as far as a C daemon tells';
  const silent = await silentClients(await daemon.adminClient(), pid);
  if (silent.length === 0) return { ok: true, what, detail: '' };
  return {
    ok: false,
    what,
    detail: `client ${silent.map(({ id }) => String(id)).join(', ')} has called nothing yet: the C daemon would exit, and every lock be lost. Close it (virt-admin client-disconnect), or wait`,
  };
}
