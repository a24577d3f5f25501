/**
 * The RPM package under a real systemd: a Debian 12 with rpm and stand-ins for libvirt's packages. Its units take the place of libvirt's, and
 * stay when libvirt's scriptlets disable and stop the lock daemon.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { lock, type Peer } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { Machine, missingMachine } from '../machine.ts';
import { missingRpm, ourPackage, standIn } from './packages.ts';

const IMAGE = '/root/image';
const SOCKETS = ['virtlockd.socket', 'virtlockd-admin.socket'];

/**
 * Copies this machine's rpm with its libraries, for a machine that has none of the same Debian. Returns a command that runs it: nothing that
 * a scriptlet starts sees those libraries.
 */
function portableRpm(directory: string): string[] {
  const lib = join(directory, 'rpm-lib');
  mkdirSync(lib);
  const needed = execFileSync('ldd', ['/usr/bin/rpm'], { encoding: 'utf8' });
  const files = [...needed.matchAll(/=> (\/\S+)/g)].map(([, file = '']) => file);
  for (const file of files) copyFileSync(file, join(lib, basename(file)));
  copyFileSync('/usr/bin/rpm', join(directory, 'rpm-program'));
  cpSync('/usr/lib/rpm', join(directory, 'rpm-configuration'), { recursive: true });
  const [loader = ''] = /\/\S*ld-linux\S*/.exec(needed) ?? [];
  const configuration = `RPM_CONFIGDIR=${join(directory, 'rpm-configuration')}`;
  return [
    'env',
    configuration,
    loader,
    '--library-path',
    lib,
    join(directory, 'rpm-program'),
    '--dbpath',
    '/var/lib/rpm',
  ];
}

describe('the RPM package under systemd', function () {
  this.timeout(240_000);
  let machine: Machine;
  let holder: Peer;
  let program: string[];
  let libvirts: string[];

  before(async function () {
    skipIf(this, missingRpm(), missingMachine());
    const ours = ourPackage();
    machine = await Machine.boot();
    program = portableRpm(machine.directory);
    libvirts = ['9.0.0', '9.0.1'].map((version) =>
      standIn(machine.directory, { name: 'libvirt-daemon-lock', version }),
    );
    copyFileSync(ours, join(machine.directory, 'ours.rpm'));
    await rpm('--upgrade', libvirts[0] ?? '');
    // systemd-nspawn gives the machine another one, which the package's unit does not see, for it has its own /proc/sys.
    await machine.must('umount', '/proc/sys/kernel/random/boot_id');
    holder = await machine.connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
    writeFileSync(machine.outside(IMAGE), '');
    await holder.must(lock.acquire('', IMAGE));
  });

  after(async () => {
    (holder as Peer | undefined)?.close();
    await (machine as Machine | undefined)?.stop();
  });

  /** Runs rpm. Returns what it says. @throws Error with that when it or a scriptlet fails */
  async function rpm(...args: readonly string[]): Promise<string> {
    const [command = '', ...before] = program;
    const { code, stdout, stderr } = await machine.run(command, ...before, ...args, '--nodeps');
    const said = stdout + stderr;
    assert.ok(code === 0 && !said.includes('scriptlet failed'), `rpm ${args.join(' ')}: ${said}`);
    return said;
  }

  const unit = async (property: string): Promise<string> => (await machine.service())[property] ?? '';
  const image = async (): Promise<string> => machine.must('readlink', `/proc/${await unit('MainPID')}/exe`);

  /** The holder's lock is refused to others, and the holder is served. */
  async function assertNothingLost(): Promise<void> {
    const other = await machine.connect();
    await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
    assert.equal((await other.ask(lock.acquire('', IMAGE)))?.code, 87);
    other.close();
    writeFileSync(machine.outside('/root/more'), '');
    await holder.must(lock.acquire('', '/root/more'));
    await holder.must(lock.release('', '/root/more'));
  }

  /** systemd keeps what the lock outlives the daemon by. */
  async function assertKept(): Promise<void> {
    await eventually('the lock would outlive the daemon', async () =>
      (await machine.must('virt-lockctl', 'status')).includes('would cost no lock'),
    );
    assert.ok(Number(await unit('NFileDescriptorStore')) > 0);
    await assertNothingLost();
  }

  async function assertSurvivesDeath(): Promise<void> {
    const before = await unit('MainPID');
    await machine.must('kill', '-KILL', before);
    await eventually('another process serves', async () => {
      const { MainPID, ActiveState } = await machine.service();
      return ActiveState === 'active' && MainPID !== '0' && MainPID !== before;
    });
    assert.match(await image(), /virtlockd-node\/bin\/node$/);
    await assertKept();
  }

  it('installed: the same process goes on in our unit, and systemd keeps its locks', async () => {
    const before = await unit('MainPID');
    assert.equal(await image(), '/usr/sbin/virtlockd');
    await rpm('--upgrade', join(machine.directory, 'ours.rpm'));
    assert.equal(await unit('MainPID'), before);
    assert.equal(await unit('FragmentPath'), '/etc/systemd/system/virtlockd.service');
    await assertKept();
    await assertSurvivesDeath();
  });

  it('systemctl preset-all where the distribution disables every unit: our sockets stay enabled, and the locks', async () => {
    const before = await unit('MainPID');
    await machine.must('mkdir', '-p', '/etc/systemd/system-preset');
    writeFileSync(machine.outside('/etc/systemd/system-preset/99-default-disable.preset'), 'disable *\n');
    await machine.must('systemctl', 'preset-all');
    await machine.must('systemctl', 'daemon-reload');
    await machine.must('rm', '/etc/systemd/system-preset/99-default-disable.preset');
    assert.equal(await machine.must('systemctl', 'is-enabled', ...SOCKETS), 'enabled\nenabled');
    assert.deepEqual(
      [await unit('MainPID'), await unit('FragmentPath')],
      [before, '/etc/systemd/system/virtlockd.service'],
    );
    await assertKept();
  });

  it("killed while libvirt's program is back at the path, as between its upgrade and our trigger: ours is started", async () => {
    await machine.must('ln', '-fT', '/usr/sbin/virtlockd.libvirt', '/usr/sbin/virtlockd');
    await assertSurvivesDeath();
    await machine.must('/usr/lib/virtlockd-node/bin/virtlockd-package', 'follow');
    assert.equal(await machine.must('readlink', '/usr/sbin/virtlockd'), '/usr/lib/virtlockd-node/bin/virtlockd');
    await assertKept();
  });

  it("libvirt's package upgraded: the same process, which its scriptlet reloads", async () => {
    const before = await unit('MainPID');
    await rpm('--upgrade', libvirts[1] ?? '');
    assert.equal(await unit('MainPID'), before);
    await assertKept();
  });

  it("libvirt's package removed: its scriptlet stops nothing that has locks, and our units stay enabled", async () => {
    assert.match(await rpm('--erase', 'libvirt-daemon-lock'), /Job for virtlockd\S* canceled/);
    assert.equal(await unit('FragmentPath'), '/etc/systemd/system/virtlockd.service');
    assert.equal(await machine.must('systemctl', 'is-enabled', ...SOCKETS), 'enabled\nenabled');
    await assertKept();
    await assertSurvivesDeath();
  });

  it('not removed while libvirt is not there and a lock is held', async () => {
    const [command = '', ...before] = program;
    const { code, stderr } = await machine.run(command, ...before, '--erase', 'virtlockd-node');
    assert.notEqual(code, 0);
    assert.match(stderr, /not removed: end the guests first, or install libvirt's own lock daemon/);
    await assertKept();
    await assertSurvivesDeath();
  });

  it("libvirt's package installed again, and ours removed: the C daemon goes on in libvirt's unit", async () => {
    await rpm('--upgrade', libvirts[1] ?? '');
    const before = await unit('MainPID');
    await rpm('--erase', 'virtlockd-node');
    assert.equal(await unit('MainPID'), before);
    assert.equal(await image(), '/usr/sbin/virtlockd');
    assert.match(await unit('FragmentPath'), /^(?:\/usr)?\/lib\/systemd\/system\/virtlockd.service$/);
    await assertNothingLost();
  });
});
