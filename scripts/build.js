/**
 * Bundles the daemon into one script, dist/virtlockd.cjs: what loads on the way through a re-execution is waited for by
 * every guest's management, and one file loads faster than many. Beside it goes V8's code cache, made by the pinned
 * Node.js, so that the same script need not be compiled again at every start.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';

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

rmSync(path.join(dist, 'virtlockd.cache'), { force: true });
await bundle('src/daemon/main.ts', 'virtlockd.cjs');
await bundle('src/lockctl/main.ts', 'virt-lockctl.cjs');
copyFileSync(path.join(root, 'src', 'daemon', 'start.cjs'), path.join(dist, 'start.cjs'));
execFileSync(path.join(root, 'scripts', 'node'), [path.join(root, 'scripts', 'make-code-cache.cjs'), dist], {
  stdio: ['ignore', 'ignore', 'inherit'],
  timeout: 60_000,
});
