/**
 * Bundles the daemon into one script, dist/virtlockd.cjs: what loads on the way through a re-execution is waited for by
 * every guest's management, and one file loads faster than many. Beside it goes V8's code cache, made by the pinned
 * Node.js, so that the same script need not be compiled again at every start.
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

/** Built beside and renamed into place: a running daemon may be about to execute what is there. */
async function bundle(source: Pick<esbuild.BuildOptions, 'entryPoints' | 'stdin'>, output: string): Promise<void> {
  await esbuild.build({ ...bundling, ...source, absWorkingDir: root, outfile: path.join(dist, `${output}.new`) });
  renameSync(path.join(dist, `${output}.new`), path.join(dist, output));
}

/** Makes the script that starts a program: it runs these bundles one after the other until one is done. */
async function start(output: string, ...bundles: readonly string[]): Promise<void> {
  const contents = `require('./src/programs/start.cjs')(${JSON.stringify(bundles)})`;
  await bundle({ stdin: { contents, resolveDir: root } }, output);
}

/** Bundles a program, with V8's code cache, which `warmUp` makes. */
async function program(entry: string, name: string, warmUp: (name: string) => unknown): Promise<void> {
  rmSync(path.join(dist, `${name}.cache`), { force: true });
  await bundle({ entryPoints: [entry] }, `${name}.cjs`);
  await warmUp(name);
  if (!existsSync(path.join(dist, `${name}.cache`))) throw new Error(`no code cache was made for ${name}`);
}

/** Runs a program on commands that use most of it. They may fail; what was compiled counts. */
function byCommands(...commands: readonly string[]): (name: string) => unknown {
  const script = path.join(root, 'scripts/make-code-cache.cjs');
  return (name) => spawnSync(process.execPath, [script, dist, name, ...commands], { stdio: 'ignore', timeout: 60_000 });
}

/** How long a daemon may take to start, on a machine that is busy with other things, in milliseconds. */
const START_MS = 60_000;

/** Waits until the daemon accepts connections there: its socket has a name before it listens. */
async function accepting(socket: string, daemon: ChildProcess): Promise<void> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (daemon.exitCode !== null) throw new Error(`the daemon ended with status ${daemon.exitCode}`);
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

/** Runs a daemon in a scratch directory while `work` does, which gets its sockets' directory and its pid. */
async function withDaemon(file: string, work: (sockets: string, pid: number) => Promise<void>): Promise<void> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-'));
  // The session daemon's paths are made the privileged one's, as far as they differ.
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

/** Has the daemon execute itself under its clients: what the new program has compiled is what every re-execution needs. */
const byReexecution = async (): Promise<void> => withDaemon('scripts/cache-daemon', warmUpDaemon);

await program('src/programs/virtlockd/main.ts', 'virtlockd', byReexecution);
await start('start.cjs', 'virtlockd');
await bundle({ entryPoints: ['src/programs/virtlockd/check-c-start.ts'] }, 'check-c-start.cjs');
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
