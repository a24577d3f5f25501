/** The parts of the package that depend on the architecture: runtime, native modules, code cache. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';
import { bundling } from '../scripts/bundle.ts';
import { noteBundled } from '../scripts/bundled.ts';
import { compilePart, type NativePart, nativeParts } from '../scripts/native-parts.js';

const CROSS = { amd64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };
const NPM_ARCH = { amd64: 'x64', arm64: 'arm64' };

/** Debian's name of an architecture with a runtime. */
type Architecture = keyof typeof CROSS;

export const ARCHITECTURES: readonly string[] = Object.keys(CROSS);

export const isArchitecture = (name: string): name is Architecture => Object.hasOwn(CROSS, name);

export interface Parts {
  /** Absolute paths of the binaries, by their paths in the installation. */
  readonly binaries: Readonly<Record<string, string>>;
  /** Only the runtime itself can make them. A package for another architecture has none, and starts a little slower. */
  readonly caches: readonly string[];
  /** The C compiler's command. */
  readonly compiler: string;
  readonly runtime: { readonly version: string; readonly arch: string };
}

function exists(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => fs.existsSync(path.join(directory, program)));
}

async function bundleSwap(root: string): Promise<void> {
  const entryPoints = [path.join(root, 'src/programs/swap/main.ts')];
  const outfile = path.join(root, 'dist/swap.cjs');
  const made = await esbuild.build({ ...bundling, entryPoints, absWorkingDir: root, outfile, metafile: true });
  noteBundled(root, 'swap.cjs', made.metafile);
}

const packagedParts = (root: string): NativePart[] => nativeParts(root).filter(({ isPackaged }) => isPackaged);

/** Strips the runtime and all native parts into the directory `work`. */
function strippedBinaries(
  program: string,
  work: string,
  runtime: string,
  parts: readonly (readonly [file: string, from: string])[],
): Parts['binaries'] {
  const binaries = [['bin/node', path.join(runtime, 'bin/node')] as const, ...parts];
  return Object.fromEntries(
    binaries.map(([file, from]) => {
      const stripped = path.join(work, path.basename(file));
      execFileSync(program, ['--strip-unneeded', '-o', stripped, from]);
      return [file, stripped];
    }),
  );
}

/** The parts for this machine's architecture, from `npm run build`. */
function native(root: string, work: string, arch: Architecture): Parts {
  const runtime = path.join(root, `node_modules/node-linux-${NPM_ARCH[arch]}`);
  const made = packagedParts(root).map(({ file }) => [file, path.join(root, file)] as const);
  return {
    binaries: strippedBinaries('strip', work, runtime, made),
    compiler: process.env.CC ?? 'cc',
    caches: ['virtlockd', 'virt-lockctl-who', 'virt-lockctl', 'virtlockd-trace'].map((name) => `dist/${name}.cache`),
    runtime: runtimeOf(root, arch),
  };
}

/** The runtime's npm package for another architecture, unpacked below build/. */
function fetchRuntime(root: string, arch: Architecture): string {
  const name = `node-linux-${NPM_ARCH[arch]}`;
  const installed = path.join(root, 'node_modules', name);
  if (fs.existsSync(installed)) return installed;
  const { version } = runtimeOf(root, arch);
  const target = path.join(root, 'build', `${name}-${version}`);
  if (!fs.existsSync(path.join(target, 'bin/node'))) {
    fs.mkdirSync(target, { recursive: true });
    const packed = ['pack', '--silent', '--pack-destination', target, `${name}@${version}`];
    const archive = execFileSync('npm', packed, { encoding: 'utf8' }).trim();
    execFileSync('tar', ['-xzf', path.join(target, archive), '-C', target, '--strip-components=1']);
    fs.rmSync(path.join(target, archive));
  }
  return target;
}

/** The parts for another architecture, built by Debian's cross compilers, or a message that names a missing tool. */
function cross(root: string, work: string, arch: Architecture): Parts | string {
  const triplet = CROSS[arch];
  for (const tool of ['gcc', 'g++', 'strip']) {
    if (!exists(`${triplet}-${tool}`))
      return `${triplet}-${tool} is not installed (Debian's package g++-${triplet.replace('_', '-')})`;
  }
  let runtime: string;
  try {
    runtime = fetchRuntime(root, arch);
  } catch (error) {
    return `cannot fetch its Node.js: ${error instanceof Error ? error.message : String(error)}`;
  }
  const compilers = { c: `${triplet}-gcc`, cxx: `${triplet}-g++` };
  const made = packagedParts(root).map((part) => {
    const output = path.join(work, `${path.basename(part.file)}.full`);
    compilePart(part, output, path.join(runtime, 'include/node'), compilers);
    return [part.file, output] as const;
  });
  return {
    binaries: strippedBinaries(`${triplet}-strip`, work, runtime, made),
    compiler: compilers.c,
    caches: [],
    runtime: runtimeOf(root, arch),
  };
}

/** The paths of all parts, or a message why they cannot be built. */
export async function builtParts(root: string, work: string, arch: Architecture): Promise<Parts | string> {
  await bundleSwap(root);
  return NPM_ARCH[arch] === process.arch ? native(root, work, arch) : cross(root, work, arch);
}

/** The pinned Node.js. */
function runtimeOf(root: string, arch: Architecture): Parts['runtime'] {
  const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<`node-linux-${string}`, string>;
  };
  const name = NPM_ARCH[arch];
  const version = manifest.optionalDependencies[`node-linux-${name}`];
  if (version === undefined) throw new Error(`package.json pins no Node.js for ${name}`);
  return { version, arch: name };
}
