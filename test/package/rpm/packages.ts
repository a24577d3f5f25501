/** RPM packages: ours, and stand-ins that hold this machine's C 9.0.0 under the names of libvirt's packages. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';

/** Why RPM packages cannot be built and installed here, or undefined. */
export function missingRpm(): string | undefined {
  if (!existsSync(join(checkout, 'dist/virtlockd.cjs'))) return 'dist/virtlockd.cjs is not built (npm run build)';
  for (const [tool, from] of [
    ['rpmbuild', 'rpm'],
    ['strip', 'binutils'],
  ] as const) {
    if (spawnSync(tool, ['--version']).status !== 0) return `${tool} is not installed (package ${from})`;
  }
  return missingDaemon('9.0.0');
}

const built = new Map<string, string>();

/**
 * Path of our package, not compressed, as only its contents matter here. Takes some seconds when first called.
 * @param version default: that of package.json
 */
export function ourPackage(version?: string): string {
  const known = built.get(version ?? '');
  if (known !== undefined) return known;
  const ofVersion = version === undefined ? [] : [`--version=${version}`];
  const build = [join(checkout, 'packaging/build.ts'), '--format=rpm', '--compression=none', ...ofVersion];
  const output = execFileSync(join(checkout, 'scripts/node'), build, { cwd: checkout, encoding: 'utf8' });
  const file = /^(.*\.rpm): /m.exec(output)?.[1];
  if (file === undefined) throw new Error(`no package was built: ${output}`);
  built.set(version ?? '', file);
  return file;
}

export interface StandIn {
  /** Of the package: `libvirt-daemon-lock`, or `libvirt-daemon` where libvirt is older than 9.1. */
  readonly name: string;
  readonly version: string;
  /** Where it has the programs: /usr/sbin, or /usr/bin on systems on which that is one directory. */
  readonly sbin?: string;
  /** The tree with libvirt's files; default: this machine. */
  readonly from?: string;
}

const unitNames = ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket'];

/** What libvirt's own packages for Fedora do in their scriptlets. */
const scriptlets = `
%preun
if [ "$1" = 0 ]; then systemctl --no-reload disable --now ${unitNames.join(' ')} || :; fi
%posttrans
systemctl reload-or-try-restart virtlockd.service >/dev/null 2>&1 || :
`;

/** Builds a stand-in. Its program is a little longer in each version, so that they differ. Returns its path, in `directory`. */
export function standIn(directory: string, { name, version, sbin = '/usr/sbin', from = '/' }: StandIn): string {
  const work = mkdtempSync(join(tmpdir(), 'virtlockd-rpm-'));
  try {
    const tree = join(work, 'tree');
    const put = (path: string, content: string | Uint8Array, mode = 0o644): void => {
      mkdirSync(join(tree, path, '..'), { recursive: true });
      writeFileSync(join(tree, path), content, { mode });
    };
    put(join(sbin, 'virtlockd'), Buffer.concat([readFileSync(join(from, PROGRAM)), Buffer.from(version)]), 0o755);
    for (const unit of unitNames) {
      const text = readFileSync(join(from, 'lib/systemd/system', unit), 'utf8');
      put(`/usr/lib/systemd/system/${unit}`, text.replace('/usr/sbin', sbin));
    }
    put('/etc/libvirt/virtlockd.conf', '# of libvirt\n');
    const spec = `Name: ${name}
Version: ${version}
Release: 1
Summary: Stand-in
License: LGPL
AutoReqProv: no
%global __os_install_post %{nil}
%global debug_package %{nil}
%description
Stand-in.
%install
cp -a ${tree}/. %{buildroot}/
${scriptlets}
%files
%{_prefix}/lib/systemd/system/*
${join(sbin, 'virtlockd')}
%config(noreplace) /etc/libvirt/virtlockd.conf
`;
    const file = join(work, 'stand-in.spec');
    writeFileSync(file, spec);
    const macros = {
      _topdir: work,
      _dbpath: join(work, 'database'),
      _binary_payload: 'w.ufdio',
      _build_id_links: 'none',
    };
    const defines = Object.entries(macros).flatMap(([macro, value]) => ['--define', `${macro} ${value}`]);
    execFileSync('rpmbuild', ['-bb', '--quiet', ...defines, file], { stdio: ['ignore', 'ignore', 'pipe'] });
    const [made = ''] = execFileSync('find', [join(work, 'RPMS'), '-name', '*.rpm'], { encoding: 'utf8' }).split('\n');
    const output = join(directory, basename(made));
    execFileSync('cp', [made, output]);
    return output;
  } finally {
    rmSync(work, { recursive: true });
  }
}
