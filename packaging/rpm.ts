/** The RPM package, by rpmbuild, which any Linux has: its own documents, units and scripts, and the spec file. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Request } from './deb.ts';
import { putContents } from './contents.ts';
import type { Parts } from './parts.ts';
import {
  assemble,
  CONFIGURATION,
  epoch,
  lib,
  packageJson,
  type Places,
  read,
  root,
  runtimeLicence,
  type Tree,
} from './tree.ts';

/** rpm's names of Debian's architectures. */
const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64' };
const COMPRESSIONS: Readonly<Record<string, string>> = { xz: 'xzdio', gzip: 'gzdio', zstd: 'zstdio', none: 'ufdio' };
const RELEASE = '1';

const PLACES: Places = {
  // virtlockd.8 is libvirt's, and rpm has no diversions.
  daemonManual: 'usr/share/man/man8/virtlockd-node.8',
  zshCompletions: 'usr/share/zsh/site-functions',
};

/** Directories that no other package has to have. */
const OWN_DIRECTORIES = [
  lib,
  'etc/needrestart',
  'usr/lib/systemd/system/machine-.scope.d',
  'usr/share/doc/virtlockd-node',
  'usr/share/licenses/virtlockd-node',
  'usr/share/virtlockd-node',
  'var/lib/virtlockd-node',
];

/** %ghost in the spec: libvirt's file, which virtlockd-package makes a link. rpm notes what it is like then. */
const GHOST_LINK = 'usr/sbin/virtlockd';

/** Why no RPM package can be built here, or undefined. */
export function missingRpmbuild(): string | undefined {
  return spawnSync('rpmbuild', ['--version']).status === 0
    ? undefined
    : "rpmbuild is not installed (Debian's package rpm)";
}

/** Replaces exactly one occurrence. @throws Error when there is another number of them */
function replaceOne(text: string, from: string, to: string): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`${from} stands ${parts.length - 1} times in what is to be changed`);
  return parts.join(to);
}

/**
 * The launcher for the unit. The path /usr/sbin/virtlockd has libvirt's program between an upgrade of libvirt's package and the trigger that
 * puts ours back, and systemd must not start that with what it keeps for our daemon. Whatever started it, the daemon executes that path again.
 */
function serviceLauncher(): string {
  const own = `file=/${lib}/bin/virtlockd`;
  const found = 'file=$0\n[ -L "$file" ] && file=$(readlink -f "$file")';
  return replaceOne(replaceOne(read('bin/virtlockd'), found, own), 'start.cjs" "$0"', 'start.cjs" /usr/sbin/virtlockd');
}

/** A unit as RPM systems have it. Its first line is how the scripts know it. */
function unit(name: string): string {
  const placed = /^placed='(.*)'$/m.exec(read('packaging/rpm/virtlockd-package'))?.[1];
  if (placed === undefined) throw new Error('packaging/rpm/virtlockd-package has no line for units');
  const text = read(`packaging/systemd/${name}`).replace('man:virtlockd(8)', 'man:virtlockd-node(8)');
  if (name !== 'virtlockd.service') return `${placed}\n${text}`;
  const started = replaceOne(text, 'ExecStart=/usr/sbin/virtlockd ', `ExecStart=/${lib}/bin/virtlockd-service `);
  return `${placed}\n${replaceOne(started, '/etc/default/virtlockd', '/etc/sysconfig/virtlockd')}`;
}

function additions(tree: Tree): void {
  tree.write(`${lib}/bin/virtlockd-service`, serviceLauncher(), 0o755);
  for (const name of fs.readdirSync(path.join(root, 'packaging/systemd')))
    tree.write(`${lib}/systemd/${name}`, unit(name));
  const script = read('packaging/rpm/virtlockd-package')
    .replace('#COMMON#\n', () => read('packaging/scripts/common.sh'))
    .replace('#RUNNING#\n', () => read('packaging/scripts/running.sh'));
  tree.write(`${lib}/bin/virtlockd-package`, script, 0o755);
  tree.put('packaging/rpm/virtlockd_node.cil', 'usr/share/selinux/packages/virtlockd_node.cil');
  // Debian enables what no preset names.
  tree.put('packaging/rpm/virtlockd-node.preset', 'usr/lib/systemd/system-preset/80-virtlockd-node.preset');
  const licences = 'usr/share/licenses/virtlockd-node';
  tree.put('packaging/debian/copyright', `${licences}/copyright`);
  tree.write(`${licences}/node.LICENSE`, runtimeLicence());
  tree.put('CHANGELOG.md', 'usr/share/doc/virtlockd-node/CHANGELOG.md');
  tree.link(`/${lib}/bin/virtlockd`, GHOST_LINK);
  fs.mkdirSync(path.join(tree.directory, 'var/lib/virtlockd-node'), { recursive: true });
}

/** rpm's `%changelog` from Debian's, which has the same releases. */
function changelog(version: string): string {
  const text = read('packaging/debian/changelog');
  const entries = [...text.matchAll(/^virtlockd-node \(([^)]*)\)[^\n]*\n(.*?)^ -- (.*?) {2}(.*)$/gms)];
  if (entries.length === 0 || (version === packageJson.version && entries[0]?.[1] !== version)) {
    throw new Error(`packaging/debian/changelog does not begin with version ${version}`);
  }
  return entries
    .map(([, of = '', body = '', author = '', date = ''], index) => {
      const [, day = '', month = '', year = ''] = /^\w+, +(\d+) (\w+) (\d+)/.exec(date) ?? [];
      const weekday = date.slice(0, 3);
      const items = body.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.replace(/^ {2}\* /, '- ')]));
      const head = `* ${weekday} ${month} ${day.padStart(2, '0')} ${year} ${author} - ${index === 0 ? version : of}-${RELEASE}`;
      return [head, ...items].join('\n').replaceAll('%', '%%');
    })
    .join('\n\n');
}

/** The lines of `%files`, in the tree's order. */
function filesOf(tree: Tree): string {
  const isOwn = (file: string): boolean =>
    OWN_DIRECTORIES.some((directory) => file === directory || file.startsWith(`${directory}/`));
  const lines = fs.readdirSync(tree.directory, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const file = path.relative(tree.directory, path.join(entry.parentPath, entry.name));
    if (entry.isDirectory()) return isOwn(file) ? [`%dir /${file}`] : [];
    if (Object.hasOwn(CONFIGURATION, file)) return [`%config(noreplace) /${file}`];
    if (file.startsWith('usr/share/licenses/')) return [`%license /${file}`];
    if (file.startsWith('usr/share/doc/')) return [`%doc /${file}`];
    return [`/${file}`];
  });
  return ['%defattr(-, root, root, -)', ...lines.sort()].join('\n');
}

/** Builds the package. Returns its path, and the bytes that it installs. @throws Error when rpmbuild fails */
export function buildRpm(tree: Tree, parts: Parts, request: Request): { output: string; installed: number } {
  const { arch, compression, level } = request;
  // rpm separates version and release by a hyphen.
  const version = request.version.replaceAll('-', '~');
  const machine = ARCHITECTURES[arch];
  const io = COMPRESSIONS[compression];
  if (machine === undefined || io === undefined) throw new Error(`no RPM package for ${arch} with ${compression}`);
  assemble(tree, parts, request.version, PLACES);
  additions(tree);
  const made = epoch();
  putContents(tree, parts, request.version, made);
  const installed = tree.size();
  const work = path.dirname(tree.directory);
  const spec = path.join(work, 'virtlockd-node.spec');
  tree.settle(Number(made));
  const text = read('packaging/rpm/virtlockd-node.spec.in')
    .replaceAll('#VERSION#', version)
    .replaceAll('#RELEASE#', RELEASE)
    .replaceAll('#TREE#', tree.directory)
    .replace('#FILES#', () => filesOf(tree))
    .replace('#CHANGELOG#', () => changelog(version));
  fs.writeFileSync(spec, text);
  const macros = {
    _topdir: path.join(work, 'rpmbuild'),
    _rpmdir: path.join(work, 'rpmbuild/RPMS'),
    _dbpath: path.join(work, 'rpmbuild/database'),
    // The same commit gives the same bytes, on whatever machine.
    _buildhost: 'virtlockd.example',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
    source_date_epoch_from_changelog: '0',
    _binary_payload: io === 'ufdio' ? 'w.ufdio' : `w${level}.${io}`,
    optflags: '%{nil}',
  };
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
  const { status, stdout, stderr } = spawnSync('rpmbuild', ['-bb', '--target', `${machine}-linux`, ...defines, spec], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: made },
  });
  if (status !== 0) throw new Error(`rpmbuild failed:\n${stdout}${stderr}`);
  const name = `virtlockd-node-${version}-${RELEASE}.${machine}.rpm`;
  const output = path.join(root, 'build', name);
  fs.renameSync(path.join(macros._rpmdir, machine, name), output);
  fs.rmSync(macros._topdir, { recursive: true, force: true });
  return { output, installed };
}
