/** Whatever is wrong when SIGUSR1 comes: one error in the log, and service goes on with every lock and client. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, readFileSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { type LockDaemon, programOf, reexecute, startDaemon, C_PROGRAM } from '../../../src/lab/start.ts';
import { eventually, programImage } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { autocreate, encode, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { AtPath, NOBODY, STATE } from './at-path.ts';

/** So many locks with names so long that their document is beyond what C reads, on a machine with few descriptors too. */
const LOCKS = 10_000;

describe('faults at a re-execution', function () {
  this.timeout(60_000);
  let at: AtPath;
  let daemon: LockDaemon;
  let holder: Peer;
  let name: string;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
  });

  async function begin(): Promise<void> {
    at = await AtPath.open();
    ({ daemon, holder, name } = at);
  }

  afterEach(async () => {
    await (at as AtPath | undefined)?.close();
  });

  const refusals = (): string[] => at.refusals();
  const refused = async (pattern: RegExp): Promise<void> => at.refused(pattern);
  const executedAgain = async (): Promise<void> => at.executedAgain();

  /** Puts a script in the program's place. */
  function script(text: string, mode = 0o755): void {
    const path = daemon.lab.outside(PROGRAM);
    rmSync(path);
    writeFileSync(path, text);
    chmodSync(path, mode);
  }

  it('keeps a client that has not registered', async () => {
    await begin();
    const silent = await daemon.connect();
    await reexecute(daemon);
    await silent.must(lock.register({ pid: NOBODY + 2, name: 'late' }));
    assert.equal((await silent.ask(lock.acquire('', name)))?.code, 87);
  });

  it('refuses a program file that is missing, truncated, not executable or broken, and takes the next good one', async () => {
    await begin();
    rmSync(daemon.lab.outside(PROGRAM));
    await refused(/cannot be executed/);
    writeFileSync(daemon.lab.outside(PROGRAM), '');
    await refused(/cannot be executed|is no virtlockd/);
    script('', 0o755);
    await refused(/cannot be executed|is no virtlockd/);
    script('#!/bin/sh\nexit 0\n', 0o644);
    await refused(/cannot be executed/);
    script('#!/bin/sh\nexit 7\n');
    await refused(/exited with 7/);
    script('#!/bin/sh\nkill -SEGV $$\n');
    await refused(/ended by SIGSEGV/);
    script('#!/bin/sh\necho "virtlockd (libvirt) nonsense"\nexit 0\n');
    await refused(/is no virtlockd/);
    script('#!/bin/sh\nhead -c 100000 /dev/zero\nexit 0\n');
    await refused(/is no virtlockd/);
    script('#!/nonexistent/interpreter\n');
    await refused(/cannot be executed/);
    script('#!/bin/sh\nsleep 0.2\nkill -9 $$\n');
    await refused(/was ended by SIGKILL/);

    daemon.lab.install(programOf('ours'));
    await executedAgain();
  });

  it('refuses a program that hangs, and serves while it does', async () => {
    await begin();
    script('#!/bin/sh\nexec sleep 1000\n');
    process.kill(daemon.pid, 'SIGUSR1');
    assert.equal((await holder.ask(lock.acquire('', name)))?.code, 87);
    await eventually('the refusal is logged', () => refusals().length === 1, 20_000);
    assert.match(refusals()[0] ?? '', /did nothing for 10\b/);
  });

  /** A program that is at work until there is GO, and then fails. It says in PROVING that it has begun. */
  const [PROVING, GO] = ['/run/proving', '/run/go'];
  const WORKING = `#!/bin/sh\n: > ${PROVING}\nuntil [ -e ${GO} ]; do :; done\nexit 7\n`;

  it('waits for a program that is at work, serves meanwhile, and then hears the next request', async () => {
    await begin();
    script(WORKING);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it takes long', () => daemon.log.includes('takes long to prove that it can go on'), 40_000);
    assert.deepEqual(refusals(), []);
    await at.holds();
    daemon.lab.install(programOf('ours'));
    const before = programImage(daemon.pid);
    process.kill(daemon.pid, 'SIGUSR1');
    daemon.lab.write(GO, '');
    await eventually('the newer program is executed', () => programImage(daemon.pid) !== before, 20_000);
    assert.match(refusals().join('\n'), /^.* exited with 7 and is no virtlockd$/);
    await at.holds();
  });

  it('ends when it is told to while a program is at work', async () => {
    await begin();
    script(WORKING);
    process.kill(daemon.pid, 'SIGUSR1');
    try {
      await eventually('the proof has begun', () => existsSync(daemon.lab.outside(PROVING)), 20_000);
      assert.equal((await daemon.stop()).code, 0);
      assert.ok(!existsSync(daemon.lab.outside(`${STATE}.new`)));
    } finally {
      daemon.lab.write(GO, '');
    }
  });

  it('hears the next request after one that failed at the last step', async () => {
    await begin();
    script(`#!/bin/sh\nmkdir -p ${STATE}\nexec ${programOf('ours')} "$@"\n`);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('the refusal is logged', () => refusals().length === 1, 20_000);
    assert.match(refusals()[0] ?? '', /is no regular file/);
    rmdirSync(daemon.lab.outside(STATE));
    daemon.lab.install(programOf('ours'));
    await executedAgain();
  });

  it('ends when it is told to in the middle of it', async () => {
    await begin();
    const space = `${daemon.lab.directory}/many`;
    await holder.must(lock.createLockspace(space));
    // As many as make the last step last.
    for (let i = 0; i < LOCKS; i++) await holder.must(lock.acquire(space, `lock-${i}`, autocreate));
    process.kill(daemon.pid, 'SIGUSR1');
    // Polled without a pause, to meet a hundredth of a second.
    const until = performance.now() + 20_000;
    while (!existsSync(daemon.lab.outside(STATE))) assert.ok(performance.now() < until, 'the last step begins');
    const { code, signal } = await daemon.stop();
    // The signal itself ends a program that has been executed and does not listen yet.
    assert.ok(code === 0 || signal === 'SIGTERM', `${signal}`);
  });

  it('goes on killing an owner that has lost its locks, and has done so before a C daemon takes over', async () => {
    await begin();
    for (const [successor, isDone] of [
      [programOf('ours'), false],
      [C_PROGRAM, true],
    ] as const) {
      const disk = `${name}-by-guest`;
      const guest = Actor.start();
      try {
        await guest.ignoreTerm();
        await guest.open('own', daemon.socket);
        await guest.send('own', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
        await guest.send('own', encode({ ...lock.acquire('', disk, autocreate), serial: 2 }));
        await eventually('the lock is there', () => lockOn(daemon.pid, disk) !== undefined);
        await guest.close('own');
        daemon.lab.install(successor);
        await reexecute(daemon);
        assert.equal(guest.gone, isDone);
        // Until then it may write.
        if (!isDone) assert.notEqual(lockOn(daemon.pid, disk), undefined);
        assert.equal(await guest.ended, 'SIGKILL');
        await eventually('its lock is released', () => !existsSync(disk));
      } finally {
        await guest.stop();
      }
    }
  });

  it('survives a run directory without space', async () => {
    await begin();
    const full = daemon.lab.outside('/run/full');
    // As small as a tmpfs can be, and then filled.
    await daemon.lab.run('mount', ['-o', 'remount,size=64k', '/run']);
    assert.throws(
      () => execFileSync('dd', ['if=/dev/zero', `of=${full}`, 'bs=4k'], { stdio: 'pipe' }),
      /No space left/,
    );
    await refused(/no space left/i);
    rmSync(full);
    await executedAgain();
  });

  it('survives a lack of descriptors', async () => {
    await begin();
    execFileSync('prlimit', ['--pid', String(daemon.pid), '--nofile=24:']);
    await eventually('the refusal is logged', () => {
      process.kill(daemon.pid, 'SIGUSR1');
      return refusals().length > 0;
    });
    execFileSync('prlimit', ['--pid', String(daemon.pid), '--nofile=4096:']);
    await executedAgain();
  });

  it('refuses a state file that another user has planted, and never follows it', async () => {
    await begin();
    const state = daemon.lab.outside(STATE);
    const victim = daemon.lab.outside('/run/victim');
    writeFileSync(victim, 'precious');
    for (const path of [state, `${state}.new`]) {
      symlinkSync('/run/victim', path);
      await refused(/no regular file: remove it/);
      assert.equal(readFileSync(victim, 'latin1'), 'precious');
      rmSync(path);
      writeFileSync(path, '{}');
      chownSync(path, 1234, 1234);
      await refused(/belongs to user 1234: remove it/);
      rmSync(path);
    }
    await reexecute(daemon);
  });

  it('starts fresh beside a state file of another process, and removes it', async () => {
    await begin();
    const state = daemon.lab.outside(STATE);
    await daemon.stop();
    writeFileSync(state, '{"magic":"1"}');
    daemon = await startDaemon('ours', { lab: daemon.lab, program: PROGRAM });
    assert.ok(!existsSync(state));
    assert.match(daemon.log, /not this one's, removed/);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'fresh' }));
  });

  it('keeps the lock of a file that two names share, over and over, until the last name goes', async () => {
    await begin();
    const [one, two] = [`${daemon.lab.directory}/one`, `${daemon.lab.directory}/two`];
    writeFileSync(one, '');
    symlinkSync(one, two);
    for (const path of [one, two]) await holder.must(lock.acquire('', path, shared));
    for (let i = 0; i < 3; i++) {
      await reexecute(daemon);
      assert.equal(lockOn(daemon.pid, one), 'READ 0 0');
    }
    await holder.must(lock.release('', one));
    assert.equal(lockOn(daemon.pid, one), 'READ 0 0');
    await reexecute(daemon);
    assert.equal(lockOn(daemon.pid, one), 'READ 0 0');
    await holder.must(lock.release('', two));
    assert.equal(lockOn(daemon.pid, one), undefined);
  });

  it('goes on with defaults when the configuration has become wrong, whatever is wrong with it', async () => {
    await begin();
    for (const text of [
      'max_clients = nonsense\n',
      'log_outputs = "1:file:/nonexistent/log"\n',
      'libvirt_version = "x"\n',
    ]) {
      daemon.lab.write('/etc/libvirt/virtlockd.conf', text);
      await executedAgain();
    }
    assert.match(daemon.log, /Going on without: /);
  });

  it('hands over a document of more than 10 MiB to itself', async () => {
    await begin();
    const space = `${daemon.lab.directory}/${'deep/'.repeat(80)}many`;
    const long = 'x'.repeat(240);
    await holder.must(lock.createLockspace(space));
    for (let i = 0; i < LOCKS; i++) await holder.must(lock.acquire(space, `${long}-${i}`, autocreate));
    await reexecute(daemon, 60_000);
    assert.equal((await holder.ask(lock.acquire(space, `${long}-${LOCKS - 1}`)))?.code, 87);
    await holder.must(lock.release(space, `${long}-0`));
  });
});
