/**
 * Bundles each program into one script in dist/. One file loads faster than many, and during a re-execution all clients wait.
 * Beside a script is V8's code cache, made by the pinned Node.js, so that a start need not compile it. Each build of one commit gives the same
 * bytes.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';
import { buildClient } from './build-client.ts';
import { writeBuild } from './build-id.js';
import { bundling } from './bundle.ts';
import { noteBundled } from './bundled.ts';
import { runtime } from './runtime.js';
import { functionsOf, wrap } from './warm/names.ts';

const root = path.resolve(import.meta.dirname, '..');
const dist = path.join(root, 'dist');

/** Renames the bundle into place, because a running daemon may be about to execute the old one. */
async function bundle(source: Pick<esbuild.BuildOptions, 'entryPoints' | 'stdin'>, output: string): Promise<void> {
  const outfile = path.join(dist, `${output}.new`);
  const made = await esbuild.build({ ...bundling, ...source, absWorkingDir: root, outfile, metafile: true });
  noteBundled(root, output, made.metafile);
  renameSync(path.join(dist, `${output}.new`), path.join(dist, output));
}

/** Makes the script that starts a program. It runs these bundles in turn until one handles the command line. */
async function start(output: string, ...bundles: readonly string[]): Promise<void> {
  const contents = `require('./src/programs/start.cjs')(${JSON.stringify(bundles)})`;
  await bundle({ stdin: { contents, resolveDir: root } }, output);
}

/** Where the functions of a bundle are that scripts/warm/NAME.txt lists. */
function warmOffsets(name: string): number[] {
  const list = new Set(readFileSync(path.join(import.meta.dirname, 'warm', `${name}.txt`), 'utf8').split('\n'));
  const functions = functionsOf(wrap(path.join(dist, `${name}.cjs`)));
  return functions.filter((one) => list.has(one.name)).map(({ body }) => body);
}

/** Bundles a program, and makes its code cache. */
async function program(entry: string, name: string): Promise<void> {
  const cache = path.join(dist, `${name}.cache`);
  rmSync(cache, { force: true });
  rmSync(`${cache}.new`, { force: true });
  await bundle({ entryPoints: [entry] }, `${name}.cjs`);
  const script = ['--no-rehash-snapshot', path.join(root, 'scripts/code-cache.cjs'), dist, name];
  for (const offsets of [[JSON.stringify(warmOffsets(name))], []])
    execFileSync(process.execPath, [...script, ...offsets]);
  renameSync(`${cache}.new`, cache);
}

await program('src/programs/virtlockd/main.ts', 'virtlockd');
await start('start.cjs', 'virtlockd');
await bundle({ entryPoints: ['src/programs/virtlockd/check-c-start.ts'] }, 'check-c-start.cjs');
await bundle({ entryPoints: ['src/etcd/worker.ts'] }, 'etcd-client.cjs');
await program('src/programs/lockctl/main-who.ts', 'virt-lockctl-who');
await program('src/programs/lockctl/main.ts', 'virt-lockctl');
await start('start-lockctl.cjs', 'virt-lockctl-who', 'virt-lockctl');
await program('src/programs/trace/main.ts', 'virtlockd-trace');
await start('start-trace.cjs', 'virtlockd-trace');
await bundle({ entryPoints: ['src/programs/conformance/main.ts'] }, 'virtlockd-conformance.cjs');
await buildClient();
writeBuild(root, runtime);
