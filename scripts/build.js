/**
 * Bundles the daemon into one script, dist/virtlockd.cjs: what loads on the way through a re-execution is waited for by
 * every guest's management, and one file loads faster than many. Beside it goes V8's code cache, made by the pinned
 * Node.js, so that the same script need not be compiled again at every start.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as esbuild from 'esbuild';
import { buildClient } from './build-client.js';

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

/** Bundles a program, with the script that starts it and V8's code cache; `warmUp` are commands that use most of it. */
async function program(entry, name, start, warmUp) {
  rmSync(path.join(dist, `${name}.cache`), { force: true });
  await bundle(entry, `${name}.cjs`);
  const source = readFileSync(path.join(root, 'src', 'daemon', 'start.cjs'), 'utf8');
  writeFileSync(path.join(dist, start), source.replaceAll('virtlockd', name));
  const script = path.join(root, 'scripts', 'make-code-cache.cjs');
  // The warm-up may fail; what it compiled counts.
  spawnSync(path.join(root, 'scripts', 'node'), [script, dist, name, ...warmUp], { stdio: 'ignore', timeout: 60_000 });
  if (!existsSync(path.join(dist, `${name}.cache`))) throw new Error(`no code cache was made for ${name}`);
}

/** Runs a daemon in a scratch directory while `work` does, which gets the path of its sockets' directory. */
async function withDaemon(work) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'virtlockd-'));
  // The session daemon's paths are made the privileged one's, as far as they differ.
  const env = { ...process.env, XDG_RUNTIME_DIR: '/run', XDG_CONFIG_HOME: '/etc', XDG_CACHE_HOME: '/run' };
  const daemon = spawn(path.join(root, 'bin/virtlockd'), ['--root', scratch], { env, stdio: 'ignore' });
  const ended = once(daemon, 'exit');
  const sockets = path.join(scratch, 'run/libvirt');
  for (let look = 0; look < 500 && !existsSync(path.join(sockets, 'virtlockd-admin-sock')); look++) await pause(10);
  try {
    await work(sockets);
  } finally {
    daemon.kill();
    await ended;
    rmSync(scratch, { recursive: true, force: true });
  }
}

await program('src/daemon/main.ts', 'virtlockd', 'start.cjs', []);
await withDaemon(async (sockets) => {
  const commands = ['who /', 'list --json', 'status'].map((command) => `--connect ${sockets} ${command}`);
  await program('src/lockctl/main.ts', 'virt-lockctl', 'start-lockctl.cjs', commands);
});
await program('src/trace/main.ts', 'virtlockd-trace', 'start-trace.cjs', ['--strace /dev/null']);
await bundle('src/conformance/main.ts', 'virtlockd-conformance.cjs');
await buildClient();
