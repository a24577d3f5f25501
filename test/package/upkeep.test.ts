/**
 * A host's ordinary maintenance, by the programs that do it, in a booted Debian 12 that becomes a Debian 13 in the end: no lock is free at
 * any instant, and the package's program, diversion and units stay. With VIRTLOCKD_UPGRADE=whole all of Debian is upgraded.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { eventually } from '../../src/lab/process.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile, variant } from './deb.ts';
import { HeldLock } from './held.ts';
import { Machine, missingMachine } from './machine.ts';
import { debian12Upkeep } from './trees.ts';

const UNITS = ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket'];
const SOCKETS = UNITS.slice(1);
const LIBVIRT_13 = ['libvirt-daemon-lock', 'libvirt-daemon-plugin-lockd', 'libvirt-daemon-system'];
/** An upgrade of all of Debian takes two minutes on an idle machine, so the suite upgrades libvirt alone. */
const isWhole = process.env.VIRTLOCKD_UPGRADE === 'whole';

describe('the package on a host that is maintained', function () {
  this.timeout(isWhole ? 600_000 : 240_000);
  let machine: Machine;
  let held: HeldLock;
  let isSuspended = false;

  before(async function () {
    skipIf(this, missingMachine(debian12Upkeep));
    const packaged = packageFile();
    machine = await Machine.boot(debian12Upkeep);
    // It would keep the scripts of packages from stopping anything.
    rmSync(machine.outside('/usr/sbin/policy-rc.d'), { force: true });
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
    await apt('install', join(machine.directory, 'package.deb'));
    await machine.must('systemctl', 'start', 'virtlockd.service');
    held = await HeldLock.acquire(machine);
    await eventually('the lock would outlive the daemon', async () =>
      (await machine.must('virt-lockctl', 'status')).includes('would cost no lock'),
    );
  });

  after(async () => {
    await (held as HeldLock | undefined)?.end();
    await (machine as Machine | undefined)?.stop();
  });

  async function apt(...words: readonly string[]): Promise<string> {
    const keep = ['-o', 'Dpkg::Options::=--force-confold', '-o', 'Dpkg::Options::=--force-unsafe-io'];
    // After the tests of needrestart itself, which takes long each time.
    const suspend = `NEEDRESTART_SUSPEND=${isSuspended ? '1' : ''}`;
    const { code, stdout, stderr } = await machine.run('env', suspend, 'apt-get', '--yes', ...keep, ...words);
    assert.equal(code, 0, stdout + stderr);
    return stdout + stderr;
  }

  const mainPid = async (): Promise<string> => (await machine.service()).MainPID ?? '';
  const program = async (): Promise<string> => machine.must('readlink', `/proc/${await mainPid()}/exe`);

  /** The same connection and hold, no instant without the lock, and the package's program, diversion and units. */
  async function assertNothingLost(): Promise<void> {
    await held.assertKept();
    assert.match(await program(), /^\/usr\/lib\/virtlockd-node\/bin\/node/);
    assert.equal(await machine.must('readlink', '/usr/sbin/virtlockd'), '/usr/lib/virtlockd-node/bin/virtlockd');
    assert.match(
      await machine.must('dpkg-divert', '--list', '/usr/sbin/virtlockd'),
      /^diversion of \/usr\/sbin\/virtlockd to \/usr\/sbin\/virtlockd\.libvirt by virtlockd-node$/,
    );
    for (const unit of UNITS) {
      const shown = await machine.must('systemctl', 'show', '--property=FragmentPath,NeedDaemonReload,LoadState', unit);
      assert.match(shown, new RegExp(`^FragmentPath=/etc/systemd/system/${unit}$`, 'm'), unit);
      assert.match(shown, /^LoadState=loaded$/m, unit);
      const text = await machine.must('cat', `/etc/systemd/system/${unit}`);
      assert.match(text, /^# Of the package virtlockd-node/, unit);
    }
    assert.equal(await machine.must('systemctl', 'is-active', ...UNITS), 'active\nactive\nactive');
    for (const socket of SOCKETS) {
      const found = await machine.must('find', '/etc/systemd/system', '-path', `*.target.wants/${socket}`);
      assert.notEqual(found, '', `${socket} is started with the machine`);
    }
  }

  /** Puts another file with the same bytes at a library's path, as its upgrade does. */
  async function upgradeLibrary(): Promise<void> {
    const library = await machine.must('sh', '-c', 'readlink -f /usr/lib/x86_64-linux-gnu/libstdc++.so.6');
    await machine.must('cp', library, `${library}.new`);
    await machine.must('mv', `${library}.new`, library);
    assert.match(await machine.must('cat', `/proc/${await mainPid()}/maps`), /libstdc\+\+.*\(deleted\)$/m);
  }

  /** Waits until the daemon has executed itself with the present library, and asserts that it is the same process. */
  async function reloaded(before: string): Promise<void> {
    await eventually('it has the present library', async () => {
      const maps = await machine.must('cat', `/proc/${before}/maps`);
      return maps.includes('libstdc++') && !/libstdc\+\+.*\(deleted\)$/m.test(maps);
    });
    assert.equal(await mainPid(), before);
  }

  it('needrestart has the daemon execute itself with new libraries', async () => {
    const before = await mainPid();
    await upgradeLibrary();
    const said = await machine.must('needrestart', '-v', '-l', '-r', 'a');
    assert.match(said, /virtlockd\.service/);
    await reloaded(before);
    await assertNothingLost();
  });

  it('so does needrestart as apt runs it after an upgrade', async () => {
    const before = await mainPid();
    await upgradeLibrary();
    await machine.must(
      'sed',
      '-i',
      "s/^#\\$nrconf{restart} = .*/$nrconf{restart} = 'a';/",
      '/etc/needrestart/needrestart.conf',
    );
    await apt('install', '--reinstall', 'libvirt-clients');
    await reloaded(before);
    await assertNothingLost();
  });

  it('an unattended upgrade', async () => {
    const newer = variant('0.9.0', machine.directory, () => undefined);
    await serveByApt(newer);
    const pid = await mainPid();
    const said = await machine.must('unattended-upgrade', '--verbose');
    assert.match(said, /Packages that will be upgraded: virtlockd-node/);
    assert.equal(await machine.must('dpkg-query', '-W', '-f', '${Version}', 'virtlockd-node'), '0.9.0');
    assert.equal(await mainPid(), pid);
    await assertNothingLost();
    await machine.must('rm', '/etc/apt/sources.list.d/lab.list');
  });

  /** An archive that unattended-upgrade takes packages from. */
  async function serveByApt(file: string): Promise<void> {
    const archive = machine.outside('/root/archive');
    mkdirSync(archive);
    copyFileSync(file, join(archive, basename(file)));
    const sum = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');
    const bytes = readFileSync(file);
    const control = await machine.must('dpkg-deb', '--field', file);
    const packages = `${control}\nFilename: ./${basename(file)}\nSize: ${bytes.length}\nSHA256: ${sum(bytes)}\n`;
    writeFileSync(join(archive, 'Packages'), packages);
    const release = `Origin: Lab\nLabel: Lab\nSuite: lab\nCodename: lab\nDate: ${new Date().toUTCString()}\nSHA256:\n`;
    writeFileSync(join(archive, 'Release'), `${release} ${sum(packages)} ${packages.length} Packages\n`);
    const list = '/etc/apt/sources.list.d/lab.list';
    writeFileSync(machine.outside(list), 'deb [trusted=yes] file:/root/archive ./\n');
    writeFileSync(
      machine.outside('/etc/apt/apt.conf.d/99lab'),
      'Unattended-Upgrade::Origins-Pattern { "origin=Lab"; };\n',
    );
    await machine.must(
      'apt-get',
      'update',
      '-o',
      `Dir::Etc::SourceList=${list}`,
      '-o',
      'Dir::Etc::SourceParts=-',
      '-o',
      'APT::Get::List-Cleanup=0',
    );
  }

  it('systemctl preset-all, with and without a preset that disables all', async () => {
    await machine.must('systemctl', 'preset-all');
    await assertNothingLost();
    await machine.must('mkdir', '-p', '/etc/systemd/system-preset');
    writeFileSync(machine.outside('/etc/systemd/system-preset/99-default-disable.preset'), 'disable *\n');
    await machine.must('systemctl', 'preset-all');
    await machine.must('systemctl', 'daemon-reload');
    await machine.must('rm', '/etc/systemd/system-preset/99-default-disable.preset');
    await machine.must('systemctl', 'enable', 'virtlockd.socket', 'virtlockd-admin.socket');
    await assertNothingLost();
  });

  it('restarts of the service and of its sockets, as other packages and operators make them', async () => {
    for (const command of [
      ['systemctl', 'restart', ...UNITS],
      ['deb-systemd-invoke', 'restart', ...UNITS],
      ['invoke-rc.d', 'virtlockd', 'restart'],
      ['service', 'virtlockd', 'restart'],
      ['systemctl', 'daemon-reexec'],
      ['systemd-tmpfiles', '--create', '--remove', '--clean'],
    ]) {
      await machine.must(command[0] ?? '', ...command.slice(1));
      await eventually('it serves', async () => (await machine.service()).SubState === 'running');
      await assertNothingLost();
    }
  });

  it("libvirt's packages are installed again, removed, and installed", async () => {
    isSuspended = true;
    await apt('install', '--reinstall', 'libvirt-daemon', 'libvirt-daemon-system', 'libvirt-clients');
    await assertNothingLost();
    for (const way of ['remove', 'purge']) {
      await apt(way, 'libvirt-daemon');
      await assertNothingLost();
      await apt('install', 'libvirt-daemon', 'libvirt-daemon-system');
      await assertNothingLost();
    }
    await machine.must('test', '-e', '/usr/sbin/virtlockd.libvirt');
  });

  it(`Debian 12 becomes Debian 13: ${isWhole ? 'all of it' : "libvirt's packages and what they need"}`, async () => {
    await machine.must('mv', '/etc/apt/trixie.list', '/etc/apt/sources.list.d/');
    if (isWhole) {
      await apt('dist-upgrade');
      assert.match(await machine.must('cat', '/etc/debian_version'), /^13/);
      await assertNothingLost();
    }
    await apt('install', ...LIBVIRT_13);
    assert.match(await machine.must('/usr/sbin/virtlockd.libvirt', '--version'), /11\.3\.0/);
    assert.match(await machine.must('dpkg-query', '-S', '/usr/sbin/virtlockd'), /^libvirt-daemon-lock: /m);
    await assertNothingLost();
  });

  it("libvirt's package of the lock daemon is installed again, removed, and installed", async () => {
    await apt('install', '--reinstall', 'libvirt-daemon-lock');
    await assertNothingLost();
    for (const way of ['remove', 'purge']) {
      await apt(way, 'libvirt-daemon-lock');
      await assertNothingLost();
      await apt('install', ...LIBVIRT_13);
      await assertNothingLost();
    }
  });

  it('the daemon dies under the new systemd', async () => {
    const before = await mainPid();
    await machine.must('kill', '-KILL', before);
    await eventually('another process serves', async () => {
      const { MainPID, SubState } = await machine.service();
      return SubState === 'running' && MainPID !== before;
    });
    await assertNothingLost();
  });

  it("is purged: the same process goes on in Debian 13's program", async () => {
    const pid = await mainPid();
    await apt('purge', 'virtlockd-node');
    assert.equal(await mainPid(), pid);
    assert.equal(await program(), '/usr/sbin/virtlockd');
    assert.match(await machine.must('/usr/sbin/virtlockd', '--version'), /11\.3\.0/);
    held.assertNeverFree();
    await held.release();
  });
});
