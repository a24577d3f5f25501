/**
 * Bundles each program into one script in dist/. One file loads faster than many, and during a re-execution all clients wait.
 * Beside a script is V8's code cache, made by the pinned Node.js, so that a start need not compile it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as esbuild from 'esbuild';
import { buildClient } from './build-client.ts';
import { writeBuild } from './build-id.js';
import { bundling } from './bundle.ts';
import { runtime } from './runtime.js';
import { warmUpDaemon } from './warm-up-daemon.ts';

const root = path.resolve(import.meta.dirname, '..');
const dist = path.join(root, 'dist');

/** Renames the bundle into place, because a running daemon may be about to execute the old one. */
async function bundle(source: Pick<esbuild.BuildOptions, 'entryPoints' | 'stdin'>, output: string): Promise<void> {
  await esbuild.build({ ...bundling, ...source, absWorkingDir: root, outfile: path.join(dist, `${output}.new`) });
  renameSync(path.join(dist, `${output}.new`), path.join(dist, output));
}

/** Makes the script that starts a program. It runs these bundles in turn until one handles the command line. */
async function start(output: string, ...bundles: readonly string[]): Promise<void> {
  const contents = `require('./src/programs/start.cjs')(${JSON.stringify(bundles)})`;
  await bundle({ stdin: { contents, resolveDir: root } }, output);
}

/** Bundles a program. `warmUp` makes its code cache. */
async function program(entry: string, name: string, warmUp: (name: string) => unknown): Promise<void> {
  rmSync(path.join(dist, `${name}.cache`), { force: true });
  await bundle({ entryPoints: [entry] }, `${name}.cjs`);
  await warmUp(name);
  if (!existsSync(path.join(dist, `${name}.cache`))) throw new Error(`no code cache was made for ${name}`);
}

/** Runs a program with commands that use most of it. They may fail: only the compiled code counts. */
function byCommands(...commands: readonly string[]): (name: string) => unknown {
  const script = path.join(root, 'scripts/make-code-cache.cjs');
  return (name) => spawnSync(process.execPath, [script, dist, name, ...commands], { stdio: 'ignore', timeout: 60_000 });
}

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
async function withDaemon(file: string, work: (sockets: string, pid: number) => Promise<void>): Promise<void> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-'));
  // Gives a session daemon the paths of a privileged one.
  const env = { ...process.env, XDG_RUNTIME_DIR: '/run', XDG_CONFIG_HOME: '/etc', XDG_CACHE_HOME: '/run' };
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

/** The cache has the code that a daemon has compiled after a re-execution with clients. */
const byReexecution = async (): Promise<void> => withDaemon('scripts/cache-daemon', warmUpDaemon);

await program('src/programs/virtlockd/main.ts', 'virtlockd', byReexecution);
await start('start.cjs', 'virtlockd');
await bundle({ entryPoints: ['src/programs/virtlockd/check-c-start.ts'] }, 'check-c-start.cjs');
await bundle({ entryPoints: ['src/etcd/worker.ts'] }, 'etcd-client.cjs');
await withDaemon('bin/virtlockd', async (sockets) => {
  const commandsOf = (...commands: readonly string[]): ReturnType<typeof byCommands> =>
    byCommands(...commands.map((command) => `--connect ${sockets} ${command}`));
  await program('src/programs/lockctl/main-who.ts', 'virt-lockctl-who', commandsOf('who /'));
  await program('src/programs/lockctl/main.ts', 'virt-lockctl', commandsOf('list --json', 'status'));
});
await start('start-lockctl.cjs', 'virt-lockctl-who', 'virt-lockctl');
await program('src/programs/trace/main.ts', 'virtlockd-trace', byCommands('--strace /dev/null'));
await start('start-trace.cjs', 'virtlockd-trace');
await bundle({ entryPoints: ['src/programs/conformance/main.ts'] }, 'virtlockd-conformance.cjs');
await buildClient();
writeBuild(root, runtime);
