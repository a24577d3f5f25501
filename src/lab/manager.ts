/** Runs manager.py, a service manager with a descriptor store, for tests without systemd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { installRoot } from '../posix/root.ts';
import { Peer } from './wire.ts';

interface ManagerEvent {
  readonly event: 'started' | 'ended' | 'ready' | 'stopping' | 'list' | 'done';
  readonly pid?: number;
  /** How many descriptors the manager passed to the program. */
  readonly passed?: number;
  readonly status?: number;
  readonly names?: readonly string[];
  /** How many descriptors have been removed from the store so far. */
  readonly removed?: number;
  /** The names of files in flight, as words. */
  readonly files?: readonly number[];
  /** The last WATCHDOG_USEC that the program has sent. */
  readonly watchdog?: string;
}

export interface ManagerOptions {
  /** The limit of stored descriptors. */
  readonly limit?: number;
  readonly program?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The manager listens at the daemon's sockets, as systemd's socket units do. */
  readonly hasSocketUnits?: boolean;
  /** After how many seconds the manager answers what it is asked. */
  readonly delay?: number;
  /** The words before a command that is to run where the program does, such as nsenter's. */
  readonly enter?: readonly string[];
}

/** A systemctl for the program, which finds it first in its PATH. */
const SYSTEMCTL = `#!/bin/sh
case "$*" in
*list-jobs*) cat "\${0%/*}/jobs" 2>/dev/null || : ;;
*show*) sleep "\$(cat "\${0%/*}/delay")" && cat "\${0%/*}/status" ;;
*) exit 1 ;;
esac
`;

/** A journalctl for the program. */
const JOURNALCTL = `#!/bin/sh
for word; do
  case $word in INVOCATION_ID=*) cat "\${0%/*}/journal-\${word#*=}" ;; esac
done
`;

export class ServiceManager {
  /** Has the manager's socket, the log, and the daemon's root. */
  readonly directory: string;
  readonly #child: ChildProcess;
  readonly #events: ManagerEvent[] = [];
  #next = 0;
  #wake: (() => void) | undefined;

  /** @param directory an empty one */
  constructor(
    directory: string,
    { limit = 4096, program, args = [], env = {}, delay = 0, enter = [], hasSocketUnits = false }: ManagerOptions = {},
  ) {
    this.directory = directory;
    for (const [name, script] of [
      ['systemctl', SYSTEMCTL],
      ['journalctl', JOURNALCTL],
    ] as const) {
      writeFileSync(join(directory, name), script);
      chmodSync(join(directory, name), 0o755);
    }
    writeFileSync(join(directory, 'delay'), String(delay));
    const root = join(directory, 'root');
    mkdirSync(join(root, 'run'), { recursive: true });
    const command = [program ?? join(installRoot, 'bin/virtlockd'), '--root', root, ...args];
    const script = join(installRoot, 'src/lab/manager.py');
    const [first = '', ...rest] = [...enter, 'python3', script, directory, String(limit), ...command];
    this.#child = spawn(first, rest, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH ?? '/usr/bin:/bin',
        XDG_RUNTIME_DIR: '/run',
        XDG_CONFIG_HOME: '/etc',
        ...(hasSocketUnits ? { SOCKET_UNITS: 'yes' } : {}),
        ...env,
      },
    });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error('no pipe');
    createInterface(stdout).on('line', (line) => {
      this.#events.push(JSON.parse(line) as ManagerEvent);
      this.#wake?.();
    });
  }

  get socket(): string {
    return join(this.directory, 'root/run/libvirt/virtlockd-sock');
  }

  get adminSocket(): string {
    return join(this.directory, 'root/run/libvirt/virtlockd-admin-sock');
  }

  get log(): string {
    return readFileSync(join(this.directory, 'log'), 'latin1');
  }

  /** Waits for the next event of the kind, and skips others before it. @throws Error with the log, after `limit` milliseconds */
  async next(event: ManagerEvent['event'], limit = 10_000): Promise<ManagerEvent> {
    const until = performance.now() + limit;
    for (;;) {
      const found = this.#events[this.#next];
      if (found !== undefined) {
        this.#next++;
        if (found.event === event) return found;
        continue;
      }
      const left = until - performance.now();
      if (left <= 0) throw new Error(`no event '${event}' within ${limit} ms\n${this.log}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Sends a command to manager.py, and waits until it is done. */
  async tell(command: string): Promise<void> {
    this.#child.stdin?.write(`${command}\n`);
    await this.next('done');
  }

  /** How many descriptors have been removed from the store so far. */
  async removed(): Promise<number> {
    this.#child.stdin?.write('list\n');
    return (await this.next('list')).removed ?? 0;
  }

  /** The names of the stored descriptors. */
  async stored(): Promise<readonly string[]> {
    this.#child.stdin?.write('list\n');
    return (await this.next('list')).names ?? [];
  }

  /** The names of files in flight, as words. */
  async files(): Promise<readonly number[]> {
    this.#child.stdin?.write('list\n');
    return (await this.next('list')).files ?? [];
  }

  /** The last WATCHDOG_USEC that the program has sent. */
  async watchdog(): Promise<string> {
    this.#child.stdin?.write('list\n');
    return (await this.next('list')).watchdog ?? '';
  }

  /** Kills the program, and waits until the next one serves. Returns the next one's pid and how many descriptors it was passed. */
  async kill(
    pid: number,
    signal: NodeJS.Signals = 'SIGKILL',
  ): Promise<{ readonly pid: number; readonly passed: number }> {
    process.kill(pid, signal);
    await this.next('ended');
    const { pid: next = 0, passed = 0 } = await this.next('started');
    await this.next('ready');
    return { pid: next, passed };
  }

  async connect(): Promise<Peer> {
    return Peer.connect(this.socket);
  }

  /** Ends the manager and the program. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await ended;
  }
}

/** The path in /proc of the record that a daemon writes. */
export function recordFile(pid: number): string {
  const directory = `/proc/${pid}/fd`;
  const fd = readdirSync(directory).find((name) => readlinkSync(join(directory, name)).includes('virtlockd record'));
  if (fd === undefined) throw new Error(`process ${pid} has no record`);
  return join(directory, fd);
}
