/** Files of the daemon's own, named as resources. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { admin } from '../../../src/lab/admin-calls.ts';
import { type LockDaemon, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { autocreate, type Call, lock, type Peer, shared } from '../../../src/lab/wire.ts';

const CONFIGURATION = '/etc/libvirt/virtlockd.conf';
const PID_FILE = '/run/virtlockd.pid';
const STATE_FILE = '/run/virtlockd-restart-exec.json';

/** Waits for a lock, as another host would. */
const RIVAL = `
import fcntl, sys
fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX, 1)
print('granted', flush=True)
`;

/** Whether a process waits in the kernel for a lock on the file. */
function isWaitedFor(file: string): boolean {
  const { ino } = statSync(file);
  return new RegExp(`-> POSIX .*:${ino} `).test(readFileSync('/proc/locks', 'latin1'));
}

describe("the daemon's pid file as a resource", () => {
  let daemon: LockDaemon;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('is refused, so that its lock cannot be dropped, also after a re-execution', async () => {
    for (let i = 0; i < 2; i++) {
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: 4_200_000 }));
      for (const flags of [0, shared]) assert.equal((await peer.ask(lock.acquire('', PID_FILE, flags)))?.code, 87);
      await peer.must(lock.createResource('', PID_FILE));
      assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
      peer.close();
      await reexecute(daemon);
    }
  });

  it('is made again at a re-execution when it was removed, and the removed one is not kept open', async () => {
    const descriptors = `/proc/${daemon.pid}/fd`;
    const target = (fd: string): string => {
      try {
        return readlinkSync(`${descriptors}/${fd}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        return ''; // closed since it was listed
      }
    };
    const removed = (): string[] =>
      readdirSync(descriptors)
        .map(target)
        .filter((file) => file.includes(`${PID_FILE} (deleted)`));
    unlinkSync(daemon.lab.outside(PID_FILE));
    assert.equal(removed().length, 1);
    await reexecute(daemon);
    assert.deepEqual(removed(), []);
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
  });
});

describe('a file that the daemon itself opens, as a resource', () => {
  let daemon: LockDaemon;
  let holder: Peer;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours', { configuration: '' });
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: 4_200_000 }));
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  async function ask(call: Call): Promise<void> {
    const operator = await daemon.connectAdmin();
    await operator.must(call);
    operator.close();
  }

  /** Why an acquire is refused. */
  async function refused(path: string, flags = 0): Promise<string | undefined> {
    const fault = await holder.ask(lock.acquire('', path, flags));
    assert.equal(fault?.code, 87);
    return fault.message;
  }

  for (const [what, path] of [
    ['configuration', CONFIGURATION],
    ['program', join(checkout, 'dist/virtlockd.cjs')],
    ['program', join(checkout, 'bin/virtlockd')],
    ['program', join(checkout, 'bin/launcher.sh')],
    ['program', join(checkout, 'package.json')],
    ['program', '/etc/ld.so.cache'],
    ['program', realpathSync('/lib/x86_64-linux-gnu/libc.so.6')],
  ] as const) {
    it(`is refused, and not deleted: ${path}`, async () => {
      const message = `resource busy: Lockspace resource '${path}' is locked: it is the daemon's own ${what}`;
      for (const flags of [0, shared]) assert.equal(await refused(path, flags), message);
      assert.equal((await holder.ask(lock.deleteResource('', path)))?.message, message);
      await holder.must(lock.createResource('', path));
      assert.ok(existsSync(daemon.lab.outside(path)));
    });
  }

  it('stays locked when it has become the configuration and SIGHUP comes', async () => {
    const file = `${CONFIGURATION}.new`;
    daemon.lab.write(file, '');
    await holder.must(lock.acquire('', file));
    renameSync(daemon.lab.outside(file), daemon.lab.outside(CONFIGURATION));
    daemon.process.kill('SIGHUP');
    await eventually('SIGHUP is heeded', () =>
      daemon.log.includes(`not taken up: ${CONFIGURATION} is a held resource`),
    );
    await reexecute(daemon);
    assert.match(daemon.log, /Going on without: .*virtlockd.conf is a held resource/);
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(CONFIGURATION)), 'WRITE 0 0');
    await holder.must(lock.release('', file));
  });

  it('is refused while it is an output of the log', async () => {
    const file = join(daemon.lab.directory, 'output');
    await ask(admin.setOutputs(`1:file:${file}`));
    assert.match((await refused(file)) ?? '', /is the daemon's own log output$/);
    // By another name, and opened once more.
    linkSync(file, `${file}.link`);
    await ask(admin.setOutputs(`1:file:${file} 1:file:${file}.link`));
    await ask(admin.setOutputs(`1:file:${file}.link`));
    assert.match((await refused(file)) ?? '', /is the daemon's own log output$/);
    await reexecute(daemon);
    assert.match((await refused(file)) ?? '', /is the daemon's own log output$/);
    await ask(admin.setOutputs('3:stderr'));
    await holder.must(lock.acquire('', file));
    assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
    await holder.must(lock.release('', file));
    assert.equal(lockOn(daemon.pid, file), undefined);
  });

  it('is refused when it is behind standard error', async () => {
    assert.match((await refused(join(daemon.lab.directory, 'virtlockd.log'))) ?? '', /own standard stream$/);
  });

  it('does not become an output of the log while it is held, or the pid file', async () => {
    const file = join(daemon.lab.directory, 'image');
    writeFileSync(file, 'data');
    await holder.must(lock.acquire('', file));
    for (const path of [file, PID_FILE]) {
      const operator = await daemon.connectAdmin();
      const fault = await operator.ask(admin.setOutputs(`1:file:${path}`));
      assert.equal(fault?.message, `failed to open ${path}: it is locked, as a resource or by the daemon itself`);
      operator.close();
    }
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(PID_FILE)), 'WRITE 0 0');
    assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
    assert.equal(readFileSync(file, 'latin1'), 'data');
    await holder.must(lock.release('', file));
  });

  it('keeps the daemon from executing a program that would open it', async () => {
    const library = '/etc/ssl/openssl.cnf';
    const file = `${library}.new`;
    daemon.lab.write(file, '');
    await holder.must(lock.acquire('', file));
    renameSync(daemon.lab.outside(file), daemon.lab.outside(library));
    await refusedRestart(`${library} is held as a resource, and opening it would drop the lock`);
    assert.equal(lockOn(daemon.pid, daemon.lab.outside(library)), 'WRITE 0 0');
    await holder.must(lock.release('', file));
    await reexecute(daemon);
  });

  it('keeps the daemon from writing its state over it', async () => {
    for (const file of [STATE_FILE, `${STATE_FILE}.new`]) {
      await holder.must(lock.acquire('', file, autocreate));
      await refusedRestart(`${file} is held as a resource: it must be released first`);
      assert.equal(lockOn(daemon.pid, daemon.lab.outside(file)), 'WRITE 0 0');
      await holder.must(lock.release('', file));
      await reexecute(daemon);
    }
  });

  async function refusedRestart(reason: string): Promise<void> {
    const before = daemon.log.length;
    daemon.process.kill('SIGUSR1');
    await eventually('the restart is refused', () => daemon.log.slice(before).includes('Unable to re-execute'));
    assert.ok(daemon.log.slice(before).includes(reason), daemon.log.slice(before));
  }
});

describe('a configured output of the log that became a held image', () => {
  let daemon: LockDaemon;
  let rival: ChildProcess;

  after(async () => {
    (rival as ChildProcess | undefined)?.kill();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  it('stays locked over restarts while another process waits for it, and nothing is written into it', async function () {
    skipIf(this, missingDaemon('ours'));
    this.timeout(30_000);
    const lab = await openLab();
    const file = join(lab.directory, 'image');
    daemon = await startDaemon('ours', { lab, configuration: `log_outputs = "1:file:${file}"\n` });
    const operator = await daemon.connectAdmin();
    await operator.must(admin.setOutputs('1:stderr'));
    writeFileSync(file, '');
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: 4_200_000 }));
    await holder.must(lock.acquire('', file));
    rival = spawn('python3', ['-c', RIVAL, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    rival.stdout?.on('data', (data: Buffer) => (said += data.toString()));
    await eventually('it waits', () => isWaitedFor(file));
    for (let i = 0; i < 5; i++) {
      await reexecute(daemon);
      process.kill(daemon.pid, 'SIGHUP');
    }
    assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
    assert.equal(said, '');
    assert.equal(readFileSync(file, 'latin1'), '');
    await holder.must(lock.release('', file));
    await eventually('it has got it', () => said.includes('granted'));
    await daemon.stop();
    await lab.close();
  });
});

describe('an output of the log that a C daemon has let a client lock', () => {
  it('is not written by the daemon that takes over, which keeps the lock', async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
    this.timeout(30_000);
    const lab = await openLab();
    const file = join(lab.directory, 'image');
    const program = '/run/swapped/virtlockd';
    lab.write('/run/swapped/none', '');
    lab.install(programOf('9.0.0'), program);
    const daemon = await startDaemon('9.0.0', { lab, program, configuration: `log_outputs = "1:file:${file}"\n` });
    try {
      const holder = await daemon.connect();
      await holder.must(lock.register({ pid: 4_200_000 }));
      await holder.must(lock.acquire('', file));
      lab.install(programOf('ours'), program);
      await executeAgain(daemon.pid);
      await holder.must(lock.acquire('', `${file}.other`, autocreate));
      assert.match(daemon.log, /failed to open .*image: it is locked, as a resource/);
      const before = readFileSync(file, 'latin1');
      for (let i = 0; i < 2; i++) {
        await reexecute(daemon);
        assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
      }
      assert.equal(readFileSync(file, 'latin1'), before);
    } finally {
      await daemon.stop();
      await lab.close();
    }
  });
});
