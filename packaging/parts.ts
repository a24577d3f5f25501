/** The parts of the package that depend on the architecture: runtime, native modules, code cache. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import * as esbuild from 'esbuild';
import { bundling } from '../scripts/bundle.ts';

const CROSS = { amd64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };
const FS_EXT = 'node_modules/fs-ext/build/Release/fs_ext.node';
const NPM_ARCH = { amd64: 'x64', arm64: 'arm64' };

/** Debian's name of an architecture with a runtime. */
type Architecture = keyof typeof CROSS;

export const isArchitecture = (name: string): name is Architecture => Object.hasOwn(CROSS, name);

export interface Parts {
  /** Absolute paths of the binaries, by their paths in the installation. */
  readonly binaries: Readonly<Record<string, string>>;
  /** Only the runtime itself can make them. A package for another architecture has none, and starts a little slower. */
  readonly caches: readonly string[];
  readonly runtime: { readonly version: string; readonly arch: string };
}

function exists(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => fs.existsSync(path.join(directory, program)));
}

async function bundleSwap(root: string): Promise<void> {
  const entryPoints = [path.join(root, 'src/programs/swap/main.ts')];
  await esbuild.build({ ...bundling, entryPoints, outfile: path.join(root, 'dist/swap.cjs') });
}

function strip(program: string, from: string, to: string): string {
  execFileSync(program, ['--strip-unneeded', '-o', to, from]);
  return to;
}

/** The parts for this machine's architecture, from `npm run build`. */
function native(root: string, work: string, arch: Architecture): Parts {
  const stripped = (file: string): string =>
    strip('strip', path.join(root, file), path.join(work, path.basename(file)));
  const modules = ['dist/posix.node', 'dist/relay.node', 'dist/launch', 'dist/guard.so', FS_EXT];
  return {
    binaries: {
      'bin/node': stripped(`node_modules/node-linux-${NPM_ARCH[arch]}/bin/node`),
      ...Object.fromEntries(modules.map((file) => [file, stripped(file)])),
    },
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

/** As in src/posix/binding.gyp: all but those of other programs. */
function addonSources(root: string): string[] {
  return fs
    .readdirSync(path.join(root, 'src/posix'))
    .filter((file) => file.endsWith('.c') && file !== 'launch.c' && file !== 'guard.c')
    .map((file) => `src/posix/${file}`);
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
  const headers = path.join(runtime, 'include/node');
  const common = ['-shared', '-fPIC', '-O2', '-pthread', '-DBUILDING_NODE_EXTENSION', `-I${headers}`];
  const compiled = (name: string, sources: readonly string[], options: readonly string[]): string => {
    const output = path.join(work, `${name}.full`);
    const files = sources.map((source) => path.join(root, source));
    execFileSync(`${triplet}-gcc`, [...options, ...files, '-o', output], { stdio: 'inherit' });
    return output;
  };
  const module = (name: string, ...sources: readonly string[]): string =>
    compiled(name, sources, [...common, `-DNODE_GYP_MODULE_NAME=${name}`]);
  const addon = module('posix', ...addonSources(root));
  const relay = module('relay', 'src/programs/trace/relay.c');
  const launch = compiled('launch', ['src/posix/launch.c'], ['-O2', '-static']);
  const guard = compiled('guard', ['src/posix/guard.c'], [...common, '-fvisibility=hidden']);
  const fsExt = path.join(work, 'fs_ext.full');
  const nan = [`-I${path.join(root, 'node_modules/nan')}`, '-std=gnu++20', '-DNODE_GYP_MODULE_NAME=fs_ext', '-w'];
  const source = path.join(root, 'node_modules/fs-ext/fs-ext.cc');
  execFileSync(`${triplet}-g++`, [...common, ...nan, source, '-o', fsExt], { stdio: 'inherit' });
  const stripped = (from: string, to: string): string => strip(`${triplet}-strip`, from, path.join(work, to));
  return {
    binaries: {
      'bin/node': stripped(path.join(runtime, 'bin/node'), 'node'),
      'dist/posix.node': stripped(addon, 'posix.node'),
      'dist/relay.node': stripped(relay, 'relay.node'),
      'dist/launch': stripped(launch, 'launch'),
      'dist/guard.so': stripped(guard, 'guard.so'),
      [FS_EXT]: stripped(fsExt, 'fs_ext.node'),
    },
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
