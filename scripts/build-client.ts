/**
 * Builds the client library into dist/client: an ES module, a CommonJS module, and the declarations of both. That folder is also
 * the package virtlockd-client. Declarations take seconds to build, so those that are newer than all sources stay.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';

const root = path.resolve(import.meta.dirname, '..');
const output = path.join(root, 'dist', 'client');
const types = path.join(output, 'types');
const entry = path.join(root, 'src', 'client', 'index.ts');

function filesBelow(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map((found) => path.join(found.parentPath, found.name));
}

function areTypesCurrent(): boolean {
  const declaration = path.join(types, 'src', 'client', 'index.d.ts');
  if (!fs.existsSync(declaration)) return false;
  const made = fs.statSync(declaration).mtimeMs;
  const sources = ['src/client', 'xdr'].flatMap((directory) => filesBelow(path.join(root, directory)));
  return [...sources, import.meta.filename, path.join(root, 'tsconfig.json')].every(
    (file) => fs.statSync(file).mtimeMs < made,
  );
}

/** Builds declarations for both kinds of modules. Those for CommonJS end in .d.cts, as their imports do. */
function buildTypes(): void {
  const fresh = `${types}.new`;
  fs.rmSync(fresh, { recursive: true, force: true });
  const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['-p', path.join(root, 'tsconfig.client.json'), '--outDir', fresh];
  const { status, stdout } = spawnSync(process.execPath, [compiler, ...options], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cannot build the client library's declarations:\n${stdout}`);
  for (const file of filesBelow(fresh)) {
    const text = fs.readFileSync(file, 'utf8');
    const importing = (extension: string): string =>
      text.replaceAll(/(from '\.[^']*|import\("\.[^"]*)\.ts(?=['"])/g, `$1.${extension}`);
    fs.writeFileSync(file.replace(/\.ts$/, '.cts'), importing('cjs'));
    fs.writeFileSync(file, importing('js'));
  }
  fs.rmSync(types, { recursive: true, force: true });
  fs.renameSync(fresh, types);
}

/** Version and licence come from the main package. */
function writePackage(): void {
  const { version, license } = readJson('package.json');
  const { name, ...rest } = readJson('src/client/package.json');
  const manifest = { name, version, license, ...rest };
  fs.writeFileSync(path.join(output, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  fs.copyFileSync(path.join(root, 'LICENSE'), path.join(output, 'LICENSE'));
  fs.copyFileSync(path.join(root, 'docs/client.md'), path.join(output, 'README.md'));
}

function readJson(file: string): Record<string, unknown> {
  return JSON.parse(fs.readFileSync(path.join(root, file), 'utf8')) as Record<string, unknown>;
}

export async function buildClient(): Promise<void> {
  fs.mkdirSync(output, { recursive: true });
  const common = {
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    target: 'node20',
    logLevel: 'warning',
  } satisfies esbuild.BuildOptions;
  await Promise.all([
    esbuild.build({ ...common, format: 'esm', outfile: path.join(output, 'index.js') }),
    esbuild.build({ ...common, format: 'cjs', outfile: path.join(output, 'index.cjs') }),
  ]);
  if (!areTypesCurrent()) buildTypes();
  writePackage();
}
