/**
 * Bundles the daemon into one script, dist/virtlockd.cjs: what loads on the way through a re-execution is waited for by
 * every guest's management, and one file loads faster than many. Beside it goes V8's code cache, made by the pinned
 * Node.js, so that the same script need not be compiled again at every start.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
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

/** Bundles a program, with the script that starts it and V8's code cache; `warmUp` are arguments that use most of it. */
async function program(entry, name, start, warmUp) {
  rmSync(path.join(dist, `${name}.cache`), { force: true });
  await bundle(entry, `${name}.cjs`);
  const source = readFileSync(path.join(root, 'src', 'daemon', 'start.cjs'), 'utf8');
  writeFileSync(path.join(dist, start), source.replaceAll('virtlockd', name));
  const script = path.join(root, 'scripts', 'make-code-cache.cjs');
  // The warm-up may fail, as there need be no daemon to ask; what it compiled counts.
  spawnSync(path.join(root, 'scripts', 'node'), [script, dist, name, ...warmUp], { stdio: 'ignore', timeout: 60_000 });
  if (!existsSync(path.join(dist, `${name}.cache`))) throw new Error(`no code cache was made for ${name}`);
}

await program('src/daemon/main.ts', 'virtlockd', 'start.cjs', []);
await program('src/lockctl/main.ts', 'virt-lockctl', 'start-lockctl.cjs', ['--connect', dist, 'who', '/']);
await buildClient();
