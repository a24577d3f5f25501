/**
 * Builds the client library into dist/client: one ES module, one CommonJS module, and the declarations of both. The folder is
 * the package virtlockd-client, too, which needs nothing else. Declarations take seconds to make, so those that are newer than
 * all sources stay.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';

const root = path.resolve(import.meta.dirname, '..');
const output = path.join(root, 'dist', 'client');
const types = path.join(output, 'types');
const entry = path.join(root, 'src', 'client', 'index.ts');

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map((found) => path.join(found.parentPath, found.name));
}

function areTypesCurrent(): boolean {
  const declaration = path.join(types, 'src', 'client', 'index.d.ts');
  if (!existsSync(declaration)) return false;
  const made = statSync(declaration).mtimeMs;
  const sources = ['src/client', 'xdr'].flatMap((directory) => filesBelow(path.join(root, directory)));
  return [...sources, import.meta.filename, path.join(root, 'tsconfig.json')].every(
    (file) => statSync(file).mtimeMs < made,
  );
}

/** One tree of declarations for both kinds of modules: those that CommonJS sees end in .d.cts, and so do their imports. */
function buildTypes(): void {
  const fresh = `${types}.new`;
  rmSync(fresh, { recursive: true, force: true });
  const compiler = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['-p', path.join(root, 'tsconfig.client.json'), '--outDir', fresh];
  const { status, stdout } = spawnSync(process.execPath, [compiler, ...options], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`no declarations of the client library:\n${stdout}`);
  for (const file of filesBelow(fresh)) {
    const text = readFileSync(file, 'utf8');
    const importing = (extension: string): string =>
      text.replaceAll(/(from '\.[^']*|import\("\.[^"]*)\.ts(?=['"])/g, `$1.${extension}`);
    writeFileSync(file.replace(/\.ts$/, '.cts'), importing('cjs'));
    writeFileSync(file, importing('js'));
  }
  rmSync(types, { recursive: true, force: true });
  renameSync(fresh, types);
}

/** Version and licence are those of the whole. */
function writePackage(): void {
  const { version, license } = readJson('package.json');
  const { name, ...rest } = readJson('src/client/package.json');
  const manifest = { name, version, license, ...rest };
  writeFileSync(path.join(output, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(path.join(root, 'LICENSE'), path.join(output, 'LICENSE'));
  copyFileSync(path.join(root, 'docs/client.md'), path.join(output, 'README.md'));
}

function readJson(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path.join(root, file), 'utf8')) as Record<string, unknown>;
}

export async function buildClient(): Promise<void> {
  mkdirSync(output, { recursive: true });
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
