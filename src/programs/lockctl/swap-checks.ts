/** The checks before a swap. A C daemon makes none itself: it exits, and every lock is lost. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { adminProgram } from '../../../xdr/programs/admin.ts';
import { tooLargeForC } from '../../inquire/state-size.ts';
import { parseVersion } from '../../libvirt/dialect.ts';
import { MAX_FILE } from '../../libvirt/limits.ts';
import { commandLineOf, programOf } from '../../proc/processes.ts';
import { type Kind, leasesOf, resolveProgram } from '../../swap/daemons.ts';
import { lackOfDescriptors } from '../../swap/descriptors.ts';
import { lackOfPermission } from '../../swap/domain.ts';
import { unregisteredClients } from '../../swap/own-daemon.ts';
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

export interface Running {
  readonly kind: Kind;
  /** The libvirt version that the daemon reports. */
  readonly version: string;
  readonly pid: number;
  /** The path that SIGUSR1 executes. */
  readonly program: string;
}

/** The program that is to run. */
export interface Target {
  readonly program: string;
  readonly kind: Kind;
}

const PROVE_MS = 10_000;

/** @throws CommandError when no daemon answers, or its process cannot be found */
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

/** The version that the daemon reports to virt-admin, as `X.Y.Z`. C daemons report it, too. */
async function libvirtVersion(daemon: InquireClient): Promise<string> {
  return daemon.ask(async (client) => {
    await client.call(adminProgram, 'open', { flags: 0 });
    const { version } = await client.call(adminProgram, 'getLibVersion', undefined);
    return formatVersion(Number(version));
  });
}

/** The process that has locked the pid file. */
function pidOf(file: string): number {
  const { lock, failure } = findObstacle(toBytes(file), false);
  if (lock !== null && lock.pid > 0) return lock.pid;
  throw new CommandError(Exit.NO, `cannot find the daemon's process: ${file} ${failure ?? 'is not locked'}`);
}

export async function checksBefore(daemon: InquireClient, running: Running, to: Target): Promise<Check[]> {
  const { pid, program, kind, version } = running;
  const toC = to.kind === 'libvirt';
  const { stateFile, pidFile } = daemon.target;
  const runDirectory = path.dirname(stateFile);
  const checks = [
    attempt('the process can be signalled', () => {
      process.kill(pid, 0);
      return `pid ${pid}`;
    }),
    attempt('its program can be replaced', () => {
      accessSync(path.dirname(program), constants.W_OK);
      return program;
    }),
    await proveProgram(to.program),
    attempt('the run directory has room for the state', () => {
      const { bavail, bsize } = statfsSync(runDirectory);
      if (bavail * bsize < MAX_FILE) throw new Error(`only ${bavail * bsize} bytes are free in ${runDirectory}`);
      return `${Math.floor((bavail * bsize) / 1024 / 1024)} MiB free in ${runDirectory}`;
    }),
    check('no state of an earlier restart is left', existsSync(stateFile) ? stateFile : undefined),
  ];
  if (kind === 'libvirt') {
    const number = parseVersion(version) ?? 0;
    checks.push(
      attempt('this version of the C daemon can hand over its locks', () => {
        if (number < OLDEST_C) throw new Error(`${version} exits on SIGUSR1: restart it while no guest runs`);
        return version;
      }),
      await checkClients(daemon, pid),
      check('enough descriptors are free for the new program', toC ? undefined : lackOfDescriptors(pid)),
      check('SELinux lets its domain run the new program', toC ? undefined : lackOfPermission(pid, to.program)),
    );
  } else if (toC) {
    const unregistered = await unregisteredClients(await daemon.adminClient());
    checks.push(
      check(
        'every client has registered, so that the C daemon can hand over its locks again',
        unregistered.map(({ id, pid }) => `client ${id} (pid ${pid}) has not`).join(', ') || undefined,
      ),
      check('the state is small enough for a C daemon', tooLargeForC(await daemon.status())),
    );
  }
  checks.push({ ok: true, what: 'locks in the kernel', detail: String(leasesOf(pid, pidFile).length) });
  return checks;
}

function check(what: string, problem: string | undefined): Check {
  return { ok: problem === undefined, what, detail: problem ?? '' };
}

function attempt(what: string, work: () => string): Check {
  try {
    return { ok: true, what, detail: work() };
  } catch (error) {
    return { ok: false, what, detail: (error as Error).message };
  }
}

/** Checks that the program runs, and is a virtlockd: a C daemon executes any program. */
async function proveProgram(target: string): Promise<Check> {
  const what = 'the new program runs';
  const { execFile } = process.getBuiltinModule('node:child_process');
  return new Promise((resolve) => {
    execFile(target, ['--version'], { timeout: PROVE_MS, killSignal: 'SIGKILL' }, (error, output) => {
      const version = /\(libvirt\) (\d+\.\d+\.\d+)/.exec(output)?.[1];
      if (error === null && version !== undefined) resolve({ ok: true, what, detail: `libvirt ${version}` });
      else resolve({ ok: false, what, detail: error?.message ?? 'it is not a virtlockd' });
    });
  });
}

async function checkClients(daemon: InquireClient, pid: number): Promise<Check> {
  const silent = (await silentClients(await daemon.adminClient(), pid)).map(({ id }) => String(id)).join(', ');
  const problem = `client ${silent} has not called yet: the C daemon would exit and lose every lock. Wait, or close it (virt-admin client-disconnect)`;
  return check('every client has registered, as far as a C daemon shows', silent === '' ? undefined : problem);
}
