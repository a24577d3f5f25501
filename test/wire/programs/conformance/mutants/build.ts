/** Bundles mutants: each becomes an installation of its own, which is started like the real one. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { assert } from '@hapi/hoek';
import * as esbuild from 'esbuild';
import { writeBuild } from '../../../../../scripts/build-id.js';
import { bundling } from '../../../../../scripts/bundle.ts';
import { checkout } from '../../../../../src/lab/trees.ts';
import type { Edit, Mutant } from './mutant.ts';

/** The source with the edits made. @throws Error when a text to be replaced is not there exactly once */
function edited(source: string, edits: readonly Edit[]): string {
  return edits.reduce((text, { file, find, replace }) => {
    const [before, after, ...more] = text.split(find);
    assert(after !== undefined && more.length === 0, `${file} does not hold exactly once: ${find}`);
    return `${before ?? ''}${replace}${after}`;
  }, source);
}

const PARTS = ['start.cjs', 'posix.node', 'launch', 'guard.so', 'storage', 'etcd-guard'].map((name) => `dist/${name}`);
/** The bundles, with their sources. */
const BUNDLES = { 'virtlockd.cjs': 'src/programs/virtlockd/main.ts', 'etcd-client.cjs': 'src/etcd/worker.ts' } as const;

/** Where mutants are installed, for one run: a mutant asked for twice is built once. */
export class Mutants {
  readonly directory: string;
  readonly #built = new Map<string, Promise<string>>();

  /** @param directory to be made there, as a new directory; it must be visible to the process that starts the mutants */
  constructor(directory = tmpdir()) {
    this.directory = mkdtempSync(join(directory, 'virtlockd-mutants-'));
  }

  /** The program that starts the mutant. */
  async program(one: Mutant): Promise<string> {
    const known = this.#built.get(one.name) ?? this.#build(one);
    this.#built.set(one.name, known);
    return known;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #build({ name, edits }: Mutant): Promise<string> {
    const root = join(this.directory, name.replaceAll(/[^a-z0-9]+/gi, '-'));
    for (const part of ['bin', 'dist']) mkdirSync(join(root, part), { recursive: true });
    symlinkSync(join(checkout, 'node_modules'), join(root, 'node_modules'));
    for (const part of ['bin/virtlockd', 'bin/launcher.sh', ...PARTS])
      copyFileSync(join(checkout, part), join(root, part));
    const changed = new Set<string>();
    const mutate: esbuild.Plugin = {
      name: 'mutate',
      setup(build) {
        build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
          const own = edits.filter(({ file }) => file === relative(checkout, path));
          if (own.length === 0) return undefined;
          for (const { file } of own) changed.add(file);
          return { contents: edited(readFileSync(path, 'utf8'), own), loader: 'ts' };
        });
      },
    };
    for (const [bundle, source] of Object.entries(BUNDLES)) {
      await esbuild.build({
        ...bundling,
        entryPoints: [join(checkout, source)],
        outfile: join(root, 'dist', bundle),
        logLevel: 'silent',
        plugins: [mutate],
      });
    }
    const missed = edits.filter(({ file }) => !changed.has(file));
    assert(missed.length === 0, `${name}: not part of the daemon: ${missed.map(({ file }) => file).join(', ')}`);
    assert(existsSync(join(root, 'dist/virtlockd.cjs')), `${name}: nothing was built`);
    writeBuild(root, { version: process.versions.node, arch: process.arch });
    return join(root, 'bin/virtlockd');
  }
}
