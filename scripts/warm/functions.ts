/** Which functions of each program run in a start and soon after. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { warmUpDaemon } from './daemon-calls.ts';
import { type BundleFunction, functionsOf, wrap } from './names.ts';

const root = path.resolve(import.meta.dirname, '../..');
const dist = path.join(root, 'dist');

/** How long a daemon may take to start on a busy machine, in milliseconds. */
const START_MS = 60_000;

/** Waits until the daemon accepts connections. Its socket has a name before it listens. */
async function accepting(socket: string, daemon: ChildProcess): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (daemon.exitCode !== null) throw new Error(`the daemon exited with status ${daemon.exitCode}`);
    const connection = createConnection(socket);
    try {
      await once(connection, 'connect');
      return;
    } catch (error) {
      if (performance.now() > until) throw new Error('the daemon does not start', { cause: error });
    } finally {
      connection.destroy();
    }
    await pause(10);
  }
}

/** Runs `work` with the directory of the sockets and the pid of a daemon in a scratch directory. */
async function withDaemon(
  file: string,
  work: (sockets: string, pid: number) => Promise<void>,
  output = '',
): Promise<void> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-'));
  // Gives a session daemon the paths of a privileged one.
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    XDG_RUNTIME_DIR: '/run',
    XDG_CONFIG_HOME: '/etc',
    XDG_CACHE_HOME: '/run',
  };
  if (output !== '') env.WARM_OUTPUT = output;
  const daemon = spawn(path.join(root, file), ['--root', scratch], { env, stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const sockets = path.join(scratch, 'run/libvirt');
  try {
    await accepting(path.join(sockets, 'virtlockd-admin-sock'), daemon);
    await work(sockets, daemon.pid ?? 0);
  } finally {
    daemon.kill();
    await ended;
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Bundles of virt-lockctl, and commands that use most of them. */
const LOCKCTL = [
  ['virt-lockctl-who', 'who /'],
  ['virt-lockctl', 'list'],
  ['virt-lockctl', 'list --json'],
  ['virt-lockctl', 'status'],
] as const;

/** Runs a program of dist/ with a command, which may fail. */
function runCommand(name: string, output: string, command: string): void {
  const script = [path.join(root, 'scripts/warm/command.cjs'), dist, name, output, ...command.split(' ')];
  spawnSync(process.execPath, script, { stdio: 'ignore', timeout: 60_000 });
}

/** The names of recorded functions. */
function namesIn(name: string, recorded: string): Set<string> {
  const functions = Map.groupBy(functionsOf(wrap(path.join(dist, `${name}.cjs`))), ({ end }) => end);
  const names = new Set<string>();
  for (const line of recorded.trimEnd().split('\n')) {
    const [start = 0, end = 0] = line.split(':').map(Number);
    // V8 and TypeScript do not begin with the same word of a method. Arrow functions in one another end together.
    const distance = (one: BundleFunction): number => Math.abs(one.start - start);
    const [nearest] = (functions.get(end) ?? []).toSorted((a, b) => distance(a) - distance(b));
    if (nearest !== undefined) names.add(nearest.name);
  }
  return names;
}

/** The names of the functions that run, by the bundles of dist/. */
export async function functionsThatRun(): Promise<Map<string, Set<string>>> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-warm-'));
  const found = new Map<string, Set<string>>();
  const output = path.join(scratch, 'functions');
  const take = (name: string): void => {
    const names = namesIn(name, readFileSync(output, 'utf8'));
    rmSync(output);
    found.set(name, new Set([...names, ...(found.get(name) ?? [])]));
  };
  try {
    // A re-execution with clients, during which all clients wait.
    await withDaemon('scripts/warm/daemon', warmUpDaemon, output);
    take('virtlockd');
    await withDaemon('scripts/warm/daemon', async () => Promise.resolve(), output);
    take('virtlockd');
    await withDaemon('bin/virtlockd', async (sockets) => {
      // Each in a process of its own: it ends as soon as one command has its answer.
      for (const [program, command] of LOCKCTL) {
        runCommand(program, output, `--connect ${sockets} ${command}`);
        take(program);
      }
      return Promise.resolve();
    });
    runCommand('virtlockd-trace', output, '--strace /dev/null');
    take('virtlockd-trace');
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return found;
}
