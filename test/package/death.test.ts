/** The daemon's death, and whatever looks like it, under a real systemd: the same connections and locks afterwards. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { admin as adminCalls } from '../../src/lab/admin-calls.ts';
import { eventually } from '../../src/lab/process.ts';
import { lock, Peer } from '../../src/lab/wire.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile } from './deb.ts';
import { HeldLock } from './held.ts';
import { Machine, missingMachine } from './machine.ts';

const SOCKETS = ['virtlockd.socket', 'virtlockd-admin.socket'];
const MAY_STOP = '/run/libvirt/virtlockd-may-stop';

describe('the package where the daemon dies', function () {
  this.timeout(120_000);
  let machine: Machine;
  let held: HeldLock;

  before(async function () {
    skipIf(this, missingMachine());
    const packaged = packageFile();
    machine = await Machine.boot();
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
    await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
    writeFileSync(machine.outside('/etc/libvirt/virtlockd.conf'), 'max_clients = 2000\n');
    await machine.must('systemctl', 'start', 'virtlockd.service');
    held = await HeldLock.acquire(machine);
  });

  after(async () => {
    await (held as HeldLock | undefined)?.end();
    await (machine as Machine | undefined)?.stop();
  });

  const mainPid = async (): Promise<string> => (await machine.service()).MainPID ?? '';

  /** The same connection and hold, no instant without the lock, and both sockets served. */
  async function assertNothingLost(): Promise<void> {
    await held.assertKept();
    const admin = await Peer.connect(machine.outside('/run/libvirt/virtlockd-admin-sock'));
    assert.equal((await admin.call(adminCalls.limits('virtlockd'))).status, 0);
    admin.close();
  }

  /** Another process serves in the end, or is about to. */
  async function dies(kill: (pid: string) => Promise<unknown>): Promise<void> {
    const before = await mainPid();
    await kill(before);
    await eventually('another process serves', async () => {
      const { MainPID, ActiveState } = await machine.service();
      return ActiveState === 'active' && MainPID !== '0' && MainPID !== before;
    });
    await assertNothingLost();
  }

  it('kill -TERM, which is no death', async () => {
    await dies(async (pid) => machine.must('kill', '-TERM', pid));
    const { restarts, deaths, lastDeath } = JSON.parse(
      await machine.must('virt-lockctl', 'status', '--json'),
    ) as Readonly<Record<string, unknown>>;
    assert.deepEqual({ restarts, deaths, lastDeath }, { restarts: 1, deaths: 0, lastDeath: null });
  });

  for (const signal of ['KILL', 'SEGV', 'ABRT']) {
    it(`kill -${signal}`, async () => {
      await dies(async (pid) => machine.must('kill', `-${signal}`, pid));
      const death = new RegExp(`: it was killed by SIG${signal}, and no client was served for \\d+ ms; `);
      await eventually('the next daemon tells how, and for how long', async () =>
        death.test(await machine.must('virt-lockctl', 'status')),
      );
    });
  }

  it('systemctl restart and try-restart', async () => {
    for (const command of ['restart', 'try-restart']) {
      await dies(async () => machine.must('systemctl', command, 'virtlockd.service'));
    }
  });

  it('systemctl restart of each socket, and of both', async () => {
    for (const sockets of [...SOCKETS.map((socket) => [socket]), SOCKETS]) {
      await dies(async () => machine.must('systemctl', 'restart', ...sockets));
    }
  });

  it('more restarts of a socket in a row than systemd permits by default', async () => {
    await dies(async () => {
      for (let round = 0; round < 7; round++) await machine.must('systemctl', 'restart', ...SOCKETS);
    });
  });

  it('a socket that cannot listen again', async () => {
    const path = '/run/libvirt/virtlockd-sock';
    await dies(async () => {
      await machine.must('rm', path);
      await machine.must('mkdir', path);
      assert.equal((await machine.run('systemctl', 'restart', 'virtlockd.socket')).code, 1);
      await machine.must('rmdir', path);
      await machine.must('systemctl', 'restart', 'virtlockd.service');
    });
    assert.equal(await machine.must('systemctl', 'is-active', ...SOCKETS), 'active\nactive');
  });

  it('a stop, of the daemon or of a socket, is refused while locks are held', async () => {
    for (const units of [
      ['virtlockd.service'],
      ...SOCKETS.map((socket) => [socket]),
      [...SOCKETS, 'virtlockd.service'],
    ]) {
      await dies(async () => {
        const { code, stderr } = await machine.run('systemctl', 'stop', ...units);
        assert.equal(code, 1, units.join(' '));
        assert.match(stderr, /Job for \S+ canceled/);
      });
      assert.equal(await machine.must('systemctl', 'is-active', ...SOCKETS), 'active\nactive');
    }
  });

  it('with more descriptors than a process may have by default', async () => {
    const crowd = await Promise.all(Array.from({ length: 1100 }, async () => machine.connect()));
    await Promise.all(crowd.map(async (peer, i) => peer.must(lock.register({ pid: 5_000_100 + i }))));
    await dies(async (pid) => machine.must('kill', '-KILL', pid));
    for (const peer of crowd) peer.close();
  });

  it('systemctl isolate leaves it alone', async () => {
    const before = await mainPid();
    await machine.must('systemctl', 'isolate', 'rescue.target');
    await machine.must('systemctl', 'isolate', 'multi-user.target');
    assert.equal(await mainPid(), before);
    await assertNothingLost();
  });

  it('daemon-reload and daemon-reexec lose nothing of the store', async () => {
    for (const command of ['daemon-reload', 'daemon-reexec']) {
      await machine.must('systemctl', command);
      await dies(async (pid) => machine.must('kill', '-KILL', pid));
    }
  });

  it('a daemon that is stopped is found out by the watchdog', async () => {
    const directory = '/etc/systemd/system/virtlockd.service.d';
    await machine.must('mkdir', '-p', directory);
    writeFileSync(machine.outside(`${directory}/watchdog.conf`), '[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n');
    await machine.must('systemctl', 'daemon-reload');
    await machine.must('systemctl', 'restart', 'virtlockd.service');
    await dies(async (pid) => machine.must('kill', '-STOP', pid));
  });

  it('a stop ends it where an operator has said that it is meant', async () => {
    await machine.must('touch', MAY_STOP);
    await machine.must('systemctl', 'stop', 'virtlockd.service');
    const { ActiveState, NFileDescriptorStore } = await machine.service();
    assert.deepEqual([ActiveState, NFileDescriptorStore], ['inactive', '0']);
    await eventually('the lock is free', () => held.watch.free.length > 0);
    assert.equal((await machine.run('test', '-e', MAY_STOP)).code, 1);
  });

  it('a stop ends it where nobody holds a lock', async () => {
    await held.acquireAgain();
    await held.release();
    await machine.must('systemctl', 'stop', 'virtlockd.service');
    assert.equal((await machine.service()).ActiveState, 'inactive');
  });
});

describe('the units of the package', function () {
  this.timeout(120_000);
  let machine: Machine;

  before(async function () {
    skipIf(this, missingMachine());
    const packaged = packageFile();
    machine = await Machine.boot();
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
    // Seen by the daemon that libvirt's unit has started, which feeds no watchdog.
    await machine.connect().then((peer) => {
      peer.close();
    });
    await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
  });

  after(async () => {
    await (machine as Machine | undefined)?.stop();
  });

  it('have guests end first at a shutdown', async () => {
    const { Before = '' } = await machine.service();
    for (const unit of ['libvirt-guests', 'libvirtd', 'virtqemud', 'virtxend']) {
      assert.ok(Before.split(' ').includes(`${unit}.service`), `${unit}: ${Before}`);
    }
    const scope = 'machine-qemu\\x2d1\\x2dguest.scope';
    const sleeper = [
      '--scope',
      '--slice=machine.slice',
      `--unit=${scope}`,
      '--',
      'systemctl',
      'show',
      '-p',
      'After',
      scope,
    ];
    assert.match(await machine.must('systemd-run', ...sleeper), /After=(?:.* )?virtlockd-guests\.target/);
    const target = await machine.must(
      'systemctl',
      'show',
      '-p',
      'After',
      '-p',
      'ActiveState',
      'virtlockd-guests.target',
    );
    assert.match(target, /After=(?:.* )?virtlockd\.service/);
    assert.match(target, /ActiveState=active/);
  });

  it('give no watchdog to a daemon that was started without one', async () => {
    assert.equal((await machine.service()).WatchdogUSec, '0');
  });

  it('have needrestart reload the daemon', async () => {
    const configuration = '/etc/needrestart/conf.d/virtlockd-node.conf';
    const defaults = 'our %nrconf = (override_rc => { qr(^virtlockd) => 0 });';
    const script = `${defaults} do q(${configuration}) or die; print $nrconf{override_rc}{qr(^virtlockd)}`;
    assert.equal(await machine.must('perl', '-e', script), '1');
    const pid = (await machine.service()).MainPID;
    await machine.must('/etc/needrestart/restart.d/virtlockd.service');
    assert.equal((await machine.service()).MainPID, pid);
  });

  it('start a guest while a restart of the sockets waits for libvirtd, which waits for that guest', async () => {
    // Stands for Debian 12's libvirtd, which requires the sockets and is stopped with them, but only once its calls are done.
    const scope = "systemd-run --quiet --scope --slice=machine.slice --unit='machine-qemu\\x2d2\\x2dguest.scope'";
    const starter = [
      '[Unit]\nRequires=virtlockd.socket\nAfter=virtlockd.socket virtlockd.service',
      '[Service]\nExecStart=sleep infinity\nTimeoutStopSec=20',
      `ExecStop=sh -c "${scope} touch /root/guest"`,
    ];
    writeFileSync(machine.outside('/run/systemd/system/starter.service'), starter.join('\n'));
    await machine.must('systemctl', 'start', 'starter.service', 'virtlockd.service');
    await machine.must('systemctl', 'restart', 'virtlockd.socket');
    assert(existsSync(machine.outside('/root/guest')));
    await eventually('the daemon serves', async () => (await machine.service()).ActiveState === 'active');
    await machine.must('systemctl', 'stop', 'starter.service');
    rmSync(machine.outside('/run/systemd/system/starter.service'));
    await machine.must('systemctl', 'daemon-reload');
  });

  it('lose no connection that waits at a socket which systemd closes', async () => {
    await machine.must('systemctl', 'start', 'virtlockd.service');
    const unit = machine.outside('/run/systemd/system/virtlockd.service.d');
    mkdirSync(unit, { recursive: true });
    writeFileSync(
      join(unit, 'wait.conf'),
      "[Service]\nExecStartPre=sh -c ': > /root/waits; while [ -e /root/waits ]; do sleep 0.05; done'\n",
    );
    await machine.must('systemctl', 'daemon-reload');
    await machine.must('systemctl', 'restart', '--no-block', 'virtlockd.service');
    const waits = machine.outside('/root/waits');
    await eventually('the next one is about to start', () => existsSync(waits));
    const peer = await machine.connect();
    const answer = peer.ask(lock.register({ pid: 5_000_000, name: 'stand-in' }));
    const invocation = async (): Promise<string> =>
      machine.must('systemctl', 'show', '--value', '-p', 'InvocationID', 'virtlockd.socket');
    const before = await invocation();
    await machine.must('systemctl', 'restart', '--no-block', 'virtlockd.socket');
    await eventually('systemd has another socket', async () => ![before, ''].includes(await invocation()));
    let isAnswered = false;
    const answered = answer.then((error) => {
      isAnswered = true;
      return error;
    });
    await Promise.race([
      answered,
      eventually('it is answered', () => {
        rmSync(waits, { force: true });
        return isAnswered;
      }),
    ]);
    assert.equal(await answered, undefined);
    peer.close();
    rmSync(unit, { recursive: true });
    await machine.must('systemctl', 'daemon-reload');
  });
});
