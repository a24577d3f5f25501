/**
 * `-d`. Node.js cannot fork, so the parent starts the program again in a session of its own, and exits with the result of the start that
 * the child reports on a pipe. Both do the cheap part of the start (options, configuration, log), so that a mistake there reaches the
 * caller's standard error, as with C.
 */

import { closeSync, writeSync } from 'node:fs';
import type { ByteString } from '../../../xdr/codec.ts';
import { commandOf } from '../../posix/bytes.ts';
import { EXIT, exitText } from '../../libvirt/exit.ts';
import type { RunOptions } from './options.ts';
import { absolutePath } from './surroundings.ts';
import type { Environment } from './systemd.ts';

/** Set for the child: `<descriptor>:<working directory of the parent>`. */
const VARIABLE = 'VIRTLOCKD_DAEMON_STATUS';

/** The pipe's descriptor in the child. */
const STATUS_DESCRIPTOR = 3;

/** The child's side of the pipe. */
class StartReport {
  /** The parent's working directory, for relative paths. Null when it is unknown. */
  readonly directory: ByteString | null;
  private fd: number | undefined;

  constructor(fd: number, directory: ByteString | null) {
    this.fd = fd;
    this.directory = directory;
  }

  /** Reports once how the start ended: 0 when the daemon serves, else its exit code. The parent then ends. */
  send(exitCode: number): void {
    if (this.fd === undefined) return;
    try {
      writeSync(this.fd, `${exitCode}\n`);
    } catch {
      // The parent was killed; the daemon goes on.
    }
    closeSync(this.fd);
    this.fd = undefined;
  }
}

/** The report to the parent, if this process is the child of one. Removes the variable. */
export function takeStartReport(environment: Environment): StartReport | undefined {
  const match = /^([0-9]+):([^]*)$/.exec(environment[VARIABLE] ?? '');
  Reflect.deleteProperty(environment, VARIABLE);
  const [, fd, directory] = match ?? [];
  return fd === undefined || directory === undefined
    ? undefined
    : new StartReport(Number(fd), directory === '' ? null : directory);
}

interface DaemonStart {
  /** The absolute path by which the program was started, and its arguments. */
  readonly words: readonly ByteString[];
  readonly environment: Readonly<Environment>;
  /** For relative paths, if it is known. */
  readonly directory: ByteString | null;
  /** The program's name in messages. */
  readonly argv0: ByteString;
  readonly print: (text: ByteString) => void;
}

/**
 * Starts the program again as a daemon and waits for its report.
 *
 * @returns the exit code for the parent
 */
export async function startDaemon({ words, environment, directory, argv0, print }: DaemonStart): Promise<number> {
  // Loaded here: it takes milliseconds, and only this start needs it.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const status = { [VARIABLE]: `${STATUS_DESCRIPTOR}:${directory ?? ''}` };
  const { file, args, env } = commandOf(words, { ...environment, ...status });
  const child = spawn(file, args, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    env,
  });
  const code = await new Promise<number>((settle) => {
    let report = '';
    child.stdio[STATUS_DESCRIPTOR]?.on('data', (data: Buffer) => {
      report += data.toString('latin1');
      if (report.includes('\n')) settle(Number.parseInt(report, 10));
    });
    // Without a report, the child's own exit code counts.
    child.on('close', (status) => {
      settle(status === null || status === EXIT.ok ? EXIT.initialize : status);
    });
    child.on('error', () => {
      settle(EXIT.initialize);
    });
  });
  child.unref();
  if (code === EXIT.ok) return EXIT.ok;
  print(`${argv0}: error: ${exitText(code)}. Check /var/log/messages or run without --daemon for more info.\n`);
  return 1;
}

/**
 * The words for the child, and for every later re-execution. The child has another working directory, and the present one may be deleted
 * later, so relative paths become absolute. A daemon's relative pid file is below /, as C opens it after chdir.
 */
export function absoluteArguments(
  options: RunOptions,
  args: readonly ByteString[],
  directory: ByteString | null,
): ByteString[] {
  const { config, root, pidFile, daemonize } = options;
  const relative = [config, root, pidFile].some((path) => path !== undefined && !path.startsWith('/'));
  if (!relative) return [...args];
  const words = daemonize ? ['--daemon'] : [];
  if (options.verbose) words.push('--verbose');
  if (config !== undefined) words.push('--config', absolutePath(config, directory));
  if (root !== undefined) words.push('--root', absolutePath(root, directory));
  if (pidFile !== undefined)
    words.push('--pid-file', pidFile === '' ? '' : absolutePath(pidFile, daemonize ? '/' : directory));
  if (options.timeout > 0) words.push('--timeout', String(options.timeout));
  return words;
}
