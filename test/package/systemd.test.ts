/** The package under a real systemd: activation by both units' sockets, notification, reload, stop, and both live swaps. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../src/lab/trees.ts';
import { eventually } from '../../src/lab/process.ts';
import { skipIf } from '../support/skip.ts';
import { lock, type Peer } from '../../src/lab/wire.ts';
import { packageFile } from './deb.ts';
import { Machine, missingMachine } from './machine.ts';

describe('the package under systemd', function () {
  this.timeout(120_000);
  let machine: Machine;
  let holder: Peer;
  let pid: string;
  let held: string[];

  before(async function () {
    skipIf(this, missingMachine());
    const packaged = packageFile();
    machine = await Machine.boot();
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
  });

  after(async () => {
    (holder as Peer | undefined)?.close();
    await (machine as Machine | undefined)?.stop();
  });

  const program = async (): Promise<string> => machine.must('readlink', `/proc/${pid}/exe`);

  async function hold(): Promise<void> {
    holder = await machine.connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
    writeFileSync(machine.outside('/root/image'), '');
    await holder.must(lock.acquire('', '/root/image'));
    pid = (await machine.service()).MainPID ?? '';
    held = await machine.locksOf(pid);
    assert.equal(held.length, 2, 'the image and the pid file');
  }

  async function assertServes(): Promise<void> {
    assert.deepEqual((await machine.locksOf(pid)).sort(), [...held].sort());
    writeFileSync(machine.outside('/root/other'), '');
    await holder.must(lock.acquire('', '/root/other'));
    await holder.must(lock.release('', '/root/other'));
  }

  it("is installed under libvirt's own daemon: the same main process, now by this package's unit", async () => {
    await hold();
    assert.match(await program(), /virtlockd$/);
    const said = await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
    const { MainPID, Type, ActiveState, FragmentPath } = await machine.service();
    assert.equal(MainPID, pid, said);
    assert.deepEqual([Type, ActiveState], ['notify', 'active']);
    assert.equal(FragmentPath, '/etc/systemd/system/virtlockd.service');
    assert.equal(await program(), '/usr/lib/virtlockd-node/bin/node', said);
    await assertServes();
  });

  it('systemctl reload executes it again', async () => {
    const image = async (): Promise<string> => machine.must('sh', '-c', `od -An -v -tx1 /proc/${pid}/auxv`);
    const before = await image();
    await machine.must('systemctl', 'reload', 'virtlockd.service');
    await eventually('it was executed again', async () => (await image()) !== before);
    await assertServes();
    assert.equal((await machine.service()).MainPID, pid);
  });

  it('systemctl stop ends it orderly, and its sockets go on', async () => {
    await holder.must(lock.release('', '/root/image'));
    await machine.must('systemctl', 'stop', 'virtlockd.service');
    const { ActiveState, Result, ExecMainStatus } = await machine.service();
    assert.deepEqual([ActiveState, Result, ExecMainStatus], ['inactive', 'success', '0']);
    assert.equal(await machine.must('systemctl', 'is-active', 'virtlockd.socket'), 'active');
    holder.close();
  });

  it('the first connection starts it, hardened, and Type=notify reaches active', async () => {
    await hold();
    assert.equal(await program(), '/usr/lib/virtlockd-node/bin/node');
    const { ActiveState, SubState, Type } = await machine.service();
    assert.deepEqual([Type, ActiveState, SubState], ['notify', 'active', 'running']);
    const status = await machine.must('cat', `/proc/${pid}/status`);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Umask:\t0077$/m);
    // DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL: files of any owner, signals to any process.
    assert.match(status, /^CapEff:\t000000000000002e$/m);
    await machine.must('systemctl', 'reload', 'virtlockd.service');
    await assertServes();
  });

  it("is purged: the same main process goes on in libvirt's program, by libvirt's unit", async () => {
    await machine.must('apt-get', 'purge', '--yes', 'virtlockd-node');
    const { MainPID, Type, FragmentPath, ActiveState } = await machine.service();
    assert.deepEqual([MainPID, Type, ActiveState], [pid, 'simple', 'active']);
    assert.equal(FragmentPath, '/lib/systemd/system/virtlockd.service');
    assert.equal(await program(), '/usr/sbin/virtlockd');
    await assertServes();
  });
});

describe('the units', function () {
  this.timeout(30_000);

  it('pass systemd-analyze verify, and leave less exposed than half of what the C unit does', function () {
    skipIf(this, missingMachine());
    const units = join(checkout, 'packaging/systemd');
    const names = ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket'].map((name) => join(units, name));
    const environment = { PATH: process.env.PATH, SYSTEMD_UNIT_PATH: `${units}:` };
    execFileSync('systemd-analyze', ['verify', '--man=no', ...names], { env: environment });
    const exposure = (file: string): number => {
      const security = ['security', '--offline=true', '--no-pager', file];
      const table = execFileSync('systemd-analyze', security, { env: environment, encoding: 'utf8' });
      return Number(/exposure level for virtlockd\.service: (\d+\.\d)/.exec(table)?.[1]);
    };
    const [ours = NaN, theirs] = [join(units, 'virtlockd.service'), '/lib/systemd/system/virtlockd.service'].map(
      exposure,
    );
    assert.ok(ours <= 2.8, `exposed ${ours}`);
    assert.equal(theirs, 9.6);
  });
});
