/** The package under a real systemd: activation by both units' sockets, notification, reload, stop, and both live swaps. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../src/lab/trees.ts';
import { eventually } from '../../src/lab/process.ts';
import { blocksFor } from '../support/blocks.ts';
import { skipIf } from '../support/skip.ts';
import { lock, type Peer } from '../../src/lab/wire.ts';
import { packageFile } from './deb.ts';
import { Machine, missingMachine } from './machine.ts';

/** Loses a SIGTERM, and then executes the daemon; all of that once. */
const SLOW = `#!/bin/sh
trap '' TERM
: > /root/starting
while ! [ -e /root/go ]; do sleep 0.05; done
[ -e /root/gone ] || exec sh -c ': > /root/gone; exec /usr/sbin/virtlockd'
trap - TERM
exec /usr/sbin/virtlockd
`;
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
    // systemd-nspawn gives the machine another one, which the package's unit does not see, for it has its own /proc/sys.
    await machine.must('umount', '/proc/sys/kernel/random/boot_id');
  });

  after(async () => {
    (holder as Peer | undefined)?.close();
    await (machine as Machine | undefined)?.stop();
  });

  /** Waits until the lock would outlive the daemon, and systemd keeps the descriptors for that. */
  async function assertKept(): Promise<void> {
    await eventually('the lock would outlive the daemon', async () =>
      (await machine.must('virt-lockctl', 'status')).includes('would cost no lock'),
    );
    assert.ok((await stored()) > 0);
  }

  /** The image is refused to another owner. */
  async function assertRefused(): Promise<void> {
    const other = await machine.connect();
    await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
    assert.equal((await other.ask(lock.acquire('', '/root/image')))?.code, 87);
    other.close();
  }

  const stored = async (): Promise<number> => Number((await machine.service()).NFileDescriptorStore);

  /** The kind of the image's lock in /proc/locks: `OFDLCK` or `POSIX`; undefined when it is free. */
  async function kindOfLock(): Promise<string | undefined> {
    const inode = await machine.must('stat', '--format=%i', '/root/image');
    const rows = (await machine.must('cat', '/proc/locks')).split('\n');
    return rows.find((row) => row.includes(`:${inode} `))?.split(/\s+/)[1];
  }

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

  /** Waits until another process of the daemon serves. */
  async function another(): Promise<void> {
    const before = pid;
    pid = await eventually('another process serves', async () => {
      const { MainPID = '0', SubState } = await machine.service();
      return SubState === 'running' && MainPID !== before && MainPID;
    });
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

  it("the lock of libvirt's daemon outlives it at once, though that one left it no NOTIFY_SOCKET", async () => {
    // The package has it execute itself once more, by its own unit. Else it would ask for a store after a minute.
    await eventually('it is executed again', async () =>
      /^restarts\s+2,/m.test(await machine.must('virt-lockctl', 'status')),
    );
    await assertKept();
    assert.equal(await kindOfLock(), 'OFDLCK');
  });

  it('systemctl reload executes it again', async () => {
    const image = async (): Promise<string> => machine.must('sh', '-c', `od -An -v -tx1 /proc/${pid}/auxv`);
    const before = await image();
    await machine.must('systemctl', 'reload', 'virtlockd.service');
    await eventually('it was executed again', async () => (await image()) !== before);
    await assertServes();
    assert.equal((await machine.service()).MainPID, pid);
  });

  it('has a timer that writes metrics for node_exporter, once it is enabled', async () => {
    assert.equal(await machine.must('sh', '-c', 'systemctl is-enabled virtlockd-metrics.timer || true'), 'disabled');
    await machine.must('mkdir', '-p', '/var/lib/prometheus/node-exporter');
    for (const { text } of blocksFor('docs/operations/monitoring.md', 'test/package/systemd.test.ts'))
      await machine.must('sh', '-c', text);
    const file = machine.outside('/var/lib/prometheus/node-exporter/virtlockd.prom');
    const written = (): string => (existsSync(file) ? readFileSync(file, 'latin1') : '');
    await eventually('the metrics are there', () => /^virtlockd_up 1$/m.test(written()), 20_000);
    assert.match(written(), /^virtlockd_locks 1$/m);
    // The dashboard's panels about systemd's store and the limit of descriptors have values here only.
    for (const name of ['stored_fds', 'max_fds']) assert.match(written(), new RegExp(`^virtlockd_${name} [1-9]`, 'm'));
    assert.match(written(), /^virtlockd_stored_fds_missing \d/m);
    const time = statSync(file).mtimeMs;
    await eventually('they are made again', () => statSync(file).mtimeMs > time, 40_000);
    // It stays enabled until the package goes.
    await machine.must('systemctl', 'stop', 'virtlockd-metrics.timer');
  });

  it('the lock outlives it', async () => {
    await assertKept();
    await machine.must('kill', '-KILL', pid);
    await another();
    await assertRefused();
    await assertServes();
  });

  it('the lock outlives a systemctl stop whose signal is lost while it starts', async () => {
    const unit = machine.outside('/run/systemd/system/virtlockd.service.d');
    mkdirSync(unit, { recursive: true });
    writeFileSync(machine.outside('/root/slow'), SLOW, { mode: 0o755 });
    writeFileSync(join(unit, 'slow.conf'), '[Service]\nExecStart=\nExecStart=/root/slow\n');
    await machine.must('systemctl', 'daemon-reload');
    await machine.must('kill', '-KILL', pid);
    await eventually('it starts', () => existsSync(machine.outside('/root/starting')));
    pid = (await machine.service()).MainPID ?? '';
    await machine.must('systemctl', 'stop', '--no-block', 'virtlockd.service');
    await eventually('it is told to stop', async () => (await machine.service()).SubState === 'stop-sigterm');
    writeFileSync(machine.outside('/root/go'), '');
    await another();
    await assertRefused();
    await assertServes();
    rmSync(unit, { recursive: true });
    await machine.must('systemctl', 'daemon-reload');
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

  it("is purged: the same main process goes on in libvirt's program, by libvirt's unit, and nothing is stored", async () => {
    await assertKept();
    await machine.must('apt-get', 'purge', '--yes', 'virtlockd-node');
    const { MainPID, Type, FragmentPath, ActiveState } = await machine.service();
    assert.deepEqual([MainPID, Type, ActiveState], [pid, 'simple', 'active']);
    assert.equal(FragmentPath, '/lib/systemd/system/virtlockd.service');
    assert.equal(await program(), '/usr/sbin/virtlockd');
    await assertServes();
    const links = await machine.must('find', '/etc/systemd/system', '-name', 'virtlockd-metrics*');
    assert.equal(links, '', 'the timer is disabled');
    assert.equal(await stored(), 0);
    assert.equal(await kindOfLock(), 'POSIX');
    // Not if a descriptor of this package's daemon were still open somewhere: with it, an open file's lock would go on.
    await holder.must(lock.release('', '/root/image'));
    assert.equal(await kindOfLock(), undefined);
    const other = await machine.connect();
    await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
    await other.must(lock.acquire('', '/root/image'));
    await other.must(lock.release('', '/root/image'));
    other.close();
  });

  it('is installed again: the lock outlives the daemon again', async () => {
    await holder.must(lock.acquire('', '/root/image'));
    const said = await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
    assert.equal((await machine.service()).MainPID, pid);
    // The system calls of this process are filtered since it was started by the package's unit, so the package leaves it as it is.
    assert.match(said, /its system calls are filtered.*: systemctl reload virtlockd\.service/);
    assert.match(said, /left as it is/);
    await machine.must('systemctl', 'reload', 'virtlockd.service');
    await assertKept();
    assert.equal(await kindOfLock(), 'OFDLCK');
    await assertServes();
    await assertRefused();
  });
});

describe('the units', function () {
  this.timeout(30_000);

  it('pass systemd-analyze verify, and leave much less exposed than the C unit does', function () {
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
    assert.ok(ours <= 3.3, `exposed ${ours}`);
    assert.equal(theirs, 9.6);
  });
});
