/** The Debian package: its own documents, its control files and maintainer scripts. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { putContents } from './contents.ts';
import type { Parts } from './parts.ts';
import {
  assemble,
  CONFIGURATION,
  epoch,
  packageJson,
  type Places,
  read,
  root,
  runtimeLicence,
  type Tree,
} from './tree.ts';

export interface Request {
  /** Debian's name of the architecture. */
  readonly arch: string;
  readonly version: string;
  /** xz, gzip, zstd or none. */
  readonly compression: string;
  readonly level: string;
}

const PLACES: Places = {
  // preinst diverts libvirt's.
  daemonManual: 'usr/share/man/man8/virtlockd.8',
  zshCompletions: 'usr/share/zsh/vendor-completions',
};

const md5 = (content: string | Buffer): string => createHash('md5').update(content).digest('hex');

function changelog(version: string): string {
  const text = read('packaging/debian/changelog');
  if (version === packageJson.version && !text.startsWith(`virtlockd-node (${version}) `)) {
    throw new Error(`packaging/debian/changelog does not begin with version ${version}`);
  }
  return text.replace(/^virtlockd-node \([^)]*\)/, `virtlockd-node (${version})`);
}

function documents(tree: Tree, version: string): void {
  const doc = 'usr/share/doc/virtlockd-node';
  tree.put('packaging/debian/copyright', `${doc}/copyright`);
  tree.write(`${doc}/changelog.gz`, changelog(version));
  tree.write(`${doc}/node.LICENSE.gz`, runtimeLicence());
  tree.put('packaging/debian/lintian-overrides', 'usr/share/lintian/overrides/virtlockd-node');
}

/** The newest glibc that a binary requires. */
function glibc(tree: Tree): string {
  const binaries = tree.files().filter((file) => /\.(node|so)$|\/node$/.test(file));
  let newest: readonly [number, number] = [2, 17];
  for (const binary of binaries) {
    const file = path.join(tree.directory, binary);
    const table = execFileSync('objdump', ['-T', file], { encoding: 'latin1', maxBuffer: 1 << 28 });
    for (const [, major, minor] of table.matchAll(/\(?GLIBC_(\d+)\.(\d+)/g)) {
      if (Number(major) === newest[0] && Number(minor) > newest[1]) newest = [Number(major), Number(minor)];
    }
  }
  return newest.join('.');
}

function control(tree: Tree, { arch, version }: Request): void {
  const list = tree.files();
  const absolute = (file: string): string => path.join(tree.directory, file);
  const size = list.reduce((sum, file) => sum + Math.ceil(fs.statSync(absolute(file)).size / 1024), 0);
  const text = read('packaging/control.in')
    .replace('#VERSION#', version)
    .replace('#ARCH#', arch)
    .replace('#SIZE#', String(size))
    .replace('#GLIBC#', glibc(tree));
  tree.write('DEBIAN/control', text);
  const configuration = Object.keys(CONFIGURATION);
  tree.write('DEBIAN/conffiles', configuration.map((file) => `/${file}\n`).join(''));
  const others = list.filter((file) => !configuration.includes(file));
  tree.write('DEBIAN/md5sums', others.map((file) => `${md5(fs.readFileSync(absolute(file)))}  ${file}\n`).join(''));
  const common = read('packaging/scripts/common.sh');
  const running = read('packaging/scripts/running.sh');
  tree.write('DEBIAN/triggers', read('packaging/debian/triggers'));
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) {
    const body = read(`packaging/debian/${script}`)
      .replace('#COMMON#\n', () => common)
      .replace('#RUNNING#\n', () => running)
      .replace('#CONF_MD5#', md5(read('docs/virtlockd.conf')))
      .replace('#DEFAULT_MD5#', md5(read('packaging/virtlockd.default')));
    tree.write(`DEBIAN/${script}`, body, 0o755);
  }
}

/** Builds the package. Returns its path, and the bytes that it installs. */
export function buildDeb(tree: Tree, parts: Parts, request: Request): { output: string; installed: number } {
  assemble(tree, parts, request.version, PLACES);
  documents(tree, request.version);
  const date = epoch();
  putContents(tree, parts, request.version, date);
  const installed = tree.size();
  control(tree, request);
  const output = path.join(root, 'build', `virtlockd-node_${request.version}_${request.arch}.deb`);
  tree.settle(Number(date));
  const compressed = [`-Z${request.compression}`, `-z${request.level}`];
  execFileSync('dpkg-deb', ['--root-owner-group', ...compressed, '--build', tree.directory, output], {
    env: { ...process.env, SOURCE_DATE_EPOCH: date },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return { output, installed };
}
