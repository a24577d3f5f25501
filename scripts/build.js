/**
 * Bundles the daemon into one script, dist/virtlockd.cjs: what loads on the way through a re-execution is waited for by
 * every guest's management, and one file loads faster than many. Beside it goes V8's code cache, made by the pinned
 * Node.js, so that the same script need not be compiled again at every start.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as esbuild from 'esbuild';
import { buildClient } from './build-client.js';
import { writeBuild } from './build-id.js';
import { runtime } from './runtime.js';
import { warmUpDaemon } from './warm-up-daemon.js';

const root = path.resolve(import.meta.dirname, '..');
const dist = path.join(root, 'dist');

/** Built beside and renamed into place: a running daemon may be about to execute what is there. */
async function bundle(entry, output) {
  await esbuild.build({
    entryPoints: [path.join(root, entry)],
    outfile: path.join(dist, `${output}.new`),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    define: { 'import.meta.dirname': '__dirname', BUNDLED: 'true' },
    external: ['fs-ext', '*.node'],
    legalComments: 'none',
    logLevel: 'warning',
  });
  renameSync(path.join(dist, `${output}.new`), path.join(dist, output));
}

/** Writes the script that starts a program: it runs these bundles one after the other until one is done. */
function writeStart(name, bundles) {
  const source = readFileSync(path.join(root, 'src/programs/start.cjs'), 'utf8');
  writeFileSync(path.join(dist, name), source.replace("['virtlockd']", JSON.stringify(bundles)));
}

/** Bundles a program, with V8's code cache, which `warmUp` makes. */
async function program(entry, name, warmUp) {
  rmSync(path.join(dist, `${name}.cache`), { force: true });
  await bundle(entry, `${name}.cjs`);
  await warmUp(name);
  if (!existsSync(path.join(dist, `${name}.cache`))) throw new Error(`no code cache was made for ${name}`);
}

/** Runs a program on commands that use most of it. They may fail; what was compiled counts. */
function byCommands(...commands) {
  const script = path.join(root, 'scripts/make-code-cache.cjs');
  const options = { stdio: 'ignore', timeout: 60_000 };
  return (name) => spawnSync(path.join(root, 'scripts/node'), [script, dist, name, ...commands], options);
}

/** How long a daemon may take to start, on a machine that is busy with other things, in milliseconds. */
const START_MS = 60_000;

/** Waits until the daemon accepts connections there: its socket has a name before it listens. */
async function accepting(socket, daemon) {
  for (const until = performance.now() + START_MS; ; await pause(10)) {
    if (daemon.exitCode !== null) throw new Error(`the daemon ended with status ${daemon.exitCode}`);
    const connection = createConnection(socket);
    try {
      await once(connection, 'connect');
      return;
    } catch (error) {
      if (performance.now() > until) throw new Error(`the daemon does not start: ${error.message}`);
    } finally {
      connection.destroy();
    }
  }
}

/** Runs a daemon in a scratch directory while `work` does, which gets its sockets' directory and its pid. */
async function withDaemon(file, work) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-'));
  // The session daemon's paths are made the privileged one's, as far as they differ.
  const env = { ...process.env, XDG_RUNTIME_DIR: '/run', XDG_CONFIG_HOME: '/etc', XDG_CACHE_HOME: '/run' };
  const daemon = spawn(file, ['--root', scratch], { env, stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const sockets = path.join(scratch, 'run/libvirt');
  try {
    await accepting(path.join(sockets, 'virtlockd-admin-sock'), daemon);
    await work(sockets, daemon.pid);
  } finally {
    daemon.kill();
    await ended;
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Executes the daemon anew under its clients: what the new program has compiled is what every re-execution needs. */
const byReexecution = () => withDaemon(path.join(root, 'scripts/cache-daemon'), warmUpDaemon);

await program('src/programs/virtlockd/main.ts', 'virtlockd', byReexecution);
writeStart('start.cjs', ['virtlockd']);
await bundle('src/programs/virtlockd/check-c-start.ts', 'check-c-start.cjs');
await withDaemon(path.join(root, 'bin/virtlockd'), async (sockets) => {
  const commandsOf = (...commands) => byCommands(...commands.map((command) => `--connect ${sockets} ${command}`));
  await program('src/programs/lockctl/main-who.ts', 'virt-lockctl-who', commandsOf('who /'));
  await program('src/programs/lockctl/main.ts', 'virt-lockctl', commandsOf('list --json', 'status'));
});
writeStart('start-lockctl.cjs', ['virt-lockctl-who', 'virt-lockctl']);
await program('src/programs/trace/main.ts', 'virtlockd-trace', byCommands('--strace /dev/null'));
writeStart('start-trace.cjs', ['virtlockd-trace']);
await bundle('src/programs/conformance/main.ts', 'virtlockd-conformance.cjs');
await buildClient();
writeBuild(root, runtime);
