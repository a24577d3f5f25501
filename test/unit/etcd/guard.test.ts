/** The guard as a process: whom it ends, and when. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import {
  Guard,
  guardArguments,
  type GuardLink,
  type GuardObserver,
  type GuardOptions,
  startGuard,
} from '../../../src/etcd/guard.ts';
import { HangingStorage, unmount } from '../../../src/lab/hanging-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingFuse, missingStrace } from '../../../src/lab/requirements.ts';
import { posix } from '../../../src/posix/posix.ts';
import { installRoot } from '../../../src/posix/root.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { poller } from '../support/poller.ts';
import type { GuardPlan } from './guard-daemon.ts';

const { EOPNOTSUPP, ESRCH, ETIME } = constants.errno;
/** Far off. */
const LATER = 60_000;

function missingRoot(): string | undefined {
  return process.geteuid?.() === 0 ? undefined : 'not root';
}

/** A process that ignores SIGTERM. */
class Owner {
  readonly child: ChildProcess;
  readonly pidfd: number;
  hasEnded = false;

  private constructor(child: ChildProcess) {
    this.child = child;
    this.pidfd = posix.pidfdOpen(child.pid ?? 0);
    assert.ok(this.pidfd >= 0);
    child.once('exit', () => (this.hasEnded = true));
  }

  static async start(): Promise<Owner> {
    const child = spawn('sh', ['-c', "trap '' TERM HUP INT; echo; exec sleep 1000"], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'data');
    return new Owner(child);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** The signal that has ended it. */
  async end(): Promise<NodeJS.Signals | null> {
    if (!this.hasEnded) await once(this.child, 'exit');
    return this.child.signalCode;
  }

  remove(): void {
    this.child.kill('SIGKILL');
    posix.close(this.pidfd);
  }
}

/** A guard of this process's own, and what it has reported. */
class Watched implements GuardObserver {
  readonly guard: Guard;
  readonly heard: string[] = [];

  constructor(options: GuardOptions = { fence: 'kill' }, start: GuardLink['start'] = startGuard) {
    this.guard = new Guard(options, { poller, start }, this);
  }

  changed(): void {
    // The state is asked for where a test needs it.
  }

  closing(): void {
    // Nothing is stored.
  }

  fired(count: number): void {
    this.heard.push(`fired ${count}`);
  }

  cleared(): void {
    this.heard.push('cleared');
  }

  fencing(count: number, status: number): void {
    this.heard.push(`fencing ${count} ${status}`);
  }

  died(): void {
    this.heard.push('died');
  }

  arm(killAfter: number, goneAfter = killAfter + LATER): void {
    const now = posix.boottime();
    this.guard.arm(now + killAfter, now + goneAfter);
  }

  async add(token: number, owner: Pick<Owner, 'pidfd'>): Promise<number> {
    return new Promise((resolve) => {
      this.guard.add(token, owner.pidfd, resolve);
    });
  }

  async hears(what: string): Promise<void> {
    await eventually(what, () => this.heard.includes(what));
  }

  async pid(): Promise<number> {
    return eventually('the guard has a pid', () => this.guard.properties?.pid);
  }
}

/** It may be a zombie for a while: who reaps orphans is another's business. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+[XZ]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return true;
  }
}

async function goneSoon(pid: number): Promise<void> {
  await eventually(`process ${pid} has ended`, () => isGone(pid));
}

describe('the guard of locks in etcd', function () {
  this.timeout(20_000);
  const owners: Owner[] = [];
  const daemons: ChildProcess[] = [];
  let watched: Watched | undefined;
  let directory: ReturnType<typeof temporaryDirectory>;
  let log: LogRecorder;

  before(() => {
    directory = temporaryDirectory();
    log = new LogRecorder(join(directory.path, 'log'));
  });

  after(() => {
    log.stop();
    directory.remove();
  });

  afterEach(async () => {
    for (const owner of owners.splice(0)) owner.remove();
    for (const daemon of daemons.splice(0)) daemon.kill('SIGKILL');
    const pid = watched?.guard.properties?.pid;
    watched?.guard.end();
    watched = undefined;
    if (pid !== undefined) await goneSoon(pid);
  });

  async function startOwners(count: number): Promise<Owner[]> {
    const started = await Promise.all(Array.from({ length: count }, async () => Owner.start()));
    owners.push(...started);
    return started;
  }

  async function startOwner(): Promise<Owner> {
    const [owner] = await startOwners(1);
    assert.ok(owner);
    return owner;
  }

  /** A daemon of its own, whose guard has all owners. */
  async function startDaemon(plan: GuardPlan, prefix: readonly string[] = []) {
    const node = join(installRoot, 'scripts/node');
    const daemon = [join(import.meta.dirname, 'guard-daemon.ts'), JSON.stringify(plan)];
    const child = spawn('env', [...prefix, node, ...daemon], { stdio: ['pipe', 'pipe', 'inherit'] });
    daemons.push(child);
    let said = '';
    child.stdout.on('data', (data: Buffer) => (said += data.toString()));
    const says = async (what: RegExp): Promise<RegExpExecArray> =>
      eventually(`the daemon says ${what.source}`, () => what.exec(said) ?? undefined);
    const guard = (await says(/guarded by (\d+)/))[1];
    return { child, says, guard: Number(guard) };
  }

  it('kills at the deadline who ignores SIGTERM or is stopped, reports that, and that they are gone', async () => {
    watched = new Watched();
    watched.arm(600);
    const [one, stopped] = await startOwners(2);
    assert.ok(one && stopped);
    stopped.child.kill('SIGSTOP');
    assert.equal(await watched.add(1, one), 0);
    assert.equal(await watched.add(2, stopped), 0);
    assert.equal(watched.guard.isReady, true);
    assert.equal(one.hasEnded, false);
    assert.equal(await one.end(), 'SIGKILL');
    assert.equal(await stopped.end(), 'SIGKILL');
    await watched.hears('cleared');
    assert.deepEqual(watched.heard, ['fired 2', 'cleared']);
  });

  it('leaves them alone while the deadline is moved on, and kills nobody before it', async () => {
    watched = new Watched();
    watched.arm(400);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    const first = posix.boottime() + 400;
    // Past the first deadline twice.
    let last = 0;
    while (posix.boottime() < first + 400) {
      last = posix.boottime() + 300;
      watched.guard.arm(last, last + LATER);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal(owner.hasEnded, false);
    assert.equal(await owner.end(), 'SIGKILL');
    assert.ok(posix.boottime() >= last);
  });

  it('takes an earlier deadline', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    watched.arm(1);
    assert.equal(await owner.end(), 'SIGKILL');
  });

  it('is not disarmed while it has an owner, and is without one', async () => {
    watched = new Watched();
    watched.arm(500);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    watched.guard.disarm();
    assert.equal(await owner.end(), 'SIGKILL');
    await watched.hears('cleared');
    watched.arm(LATER);
    const other = await startOwner();
    assert.equal(await watched.add(2, other), 0);
    watched.guard.remove(2);
    watched.guard.disarm();
    assert.equal(await watched.add(3, other), -ETIME);
  });

  it('takes no owner without a deadline, or behind it, or that is gone', async () => {
    watched = new Watched();
    const [one, gone] = await startOwners(2);
    assert.ok(one && gone);
    assert.equal(await watched.add(1, one), -ETIME);
    watched.arm(1);
    await watched.hears('fired 0');
    assert.equal(await watched.add(1, one), -ETIME);
    watched.arm(LATER);
    gone.child.kill('SIGKILL');
    await gone.end();
    assert.equal(await watched.add(2, gone), -ESRCH);
    assert.equal(one.hasEnded, false);
  });

  it('forgets who has been removed and who has ended by itself', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const [ended, removed, other] = await startOwners(3);
    assert.ok(ended && removed && other);
    assert.equal(await watched.add(1, ended), 0);
    assert.equal(await watched.add(2, removed), 0);
    assert.equal(await watched.add(3, other), 0);
    ended.child.kill('SIGKILL');
    await ended.end();
    watched.guard.remove(2);
    watched.arm(1);
    await watched.hears('fired 1');
    assert.equal(await other.end(), 'SIGKILL');
    assert.equal(removed.hasEnded, false);
  });

  it('kills many at once', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const many = await startOwners(200);
    const all = watched;
    const added = await Promise.all(many.map(async (owner, index) => all.add(index + 1, owner)));
    assert.ok(added.every((status) => status === 0));
    watched.arm(1);
    const ends = await Promise.all(many.map(async (owner) => owner.end()));
    assert.ok(ends.every((signal) => signal === 'SIGKILL'));
    await watched.hears('cleared');
    assert.deepEqual(watched.heard, ['fired 200', 'cleared']);
  });

  it('takes very many at once, as after a restart, and answers each', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const pid = await watched.pid();
    const owner = await startOwner();
    const all = watched;
    const tokens = Array.from({ length: 3000 }, (_, index) => index + 1);
    const added = await Promise.all(tokens.map(async (token) => all.add(token, owner)));
    assert.ok(added.every((status) => status === 0));
    assert.equal(watched.guard.isReady, true);
    assert.deepEqual([watched.heard, watched.guard.properties?.pid], [[], pid]);
  });

  for (const [how, signal] of [
    ['is stopped', 'SIGSTOP'],
    ['has been killed', 'SIGKILL'],
  ] as const) {
    it(`kills at the deadline while the daemon ${how}`, async () => {
      const owner = await startOwner();
      const plan = { options: { fence: 'kill' }, pids: [owner.pid], killAfter: 1500, goneAfter: LATER } as const;
      const { child, guard } = await startDaemon(plan);
      const from = posix.boottime();
      process.kill(child.pid ?? 0, signal);
      assert.equal(await owner.end(), 'SIGKILL');
      assert.ok(posix.boottime() - from < 5000);
      if (signal === 'SIGKILL') await goneSoon(guard);
      else child.kill('SIGKILL');
    });
  }

  it('ends when the daemon is gone and all owners have ended, before the deadline', async () => {
    const owner = await startOwner();
    const plan = { options: { fence: 'kill' }, pids: [owner.pid], killAfter: LATER, goneAfter: LATER } as const;
    const { child, guard } = await startDaemon(plan);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.ok(!isGone(guard));
    owner.child.kill('SIGKILL');
    await goneSoon(guard);
  });

  it('counts on the clock that a suspended host does not stop', async function () {
    skipIf(this, missingRoot(), existsSync('/proc/self/ns/time') ? undefined : 'the kernel has no time namespaces');
    // Where CLOCK_BOOTTIME is 100 000 s ahead of CLOCK_MONOTONIC, as after a long suspend.
    const owner = await startOwner();
    const plan = { options: { fence: 'kill' }, pids: [owner.pid], killAfter: 1500, goneAfter: LATER } as const;
    const { child, says } = await startDaemon(plan, [
      'unshare',
      '--time',
      '--fork',
      '--kill-child',
      '--boottime',
      '100000',
    ]);
    assert.equal(owner.hasEnded, false);
    await says(/fired 1/);
    assert.equal(await owner.end(), 'SIGKILL');
    child.kill('SIGKILL');
  });

  it('is replaced when it is killed: the daemon notices at once, and the next one has the owners', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    const { guard } = watched;
    process.kill(await watched.pid(), 'SIGKILL');
    await watched.hears('died');
    assert.equal(guard.isReady, false);
    await eventually('the next guard is ready', () => guard.isReady);
    watched.arm(1);
    assert.equal(await owner.end(), 'SIGKILL');
  });

  it('is replaced when it is stopped, and the stopped one kills nobody later', async () => {
    watched = new Watched();
    watched.arm(3000);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    const { guard } = watched;
    const stopped = await watched.pid();
    process.kill(stopped, 'SIGSTOP');
    watched.arm(LATER);
    await watched.hears('died');
    await goneSoon(stopped);
    await eventually('the next guard is ready', () => guard.isReady);
    assert.equal(owner.hasEnded, false);
  });

  it('is replaced when it does not start in time, and kills nobody when it does later', async () => {
    const late: (() => void)[] = [];
    watched = new Watched({ fence: 'kill' }, (socket, options, onEnd) => {
      const start = (): void => {
        startGuard(socket, options, onEnd);
      };
      if (late.push(start) > 1) start();
    });
    const deadline = posix.boottime() + 5000;
    watched.guard.arm(deadline, deadline + LATER);
    const owner = await startOwner();
    const added = watched.add(1, owner);
    await watched.hears('died');
    watched.arm(LATER);
    assert.equal(await added, 0);
    late[0]?.();
    await eventually('the old deadline is over', () => posix.boottime() > deadline + 500);
    assert.equal(owner.hasEnded, false);
    assert.equal(watched.guard.isReady, true);
  });

  it('is ended when it is given up though it lives, and kills nobody at its old deadline', async () => {
    watched = new Watched();
    watched.arm(LATER);
    const pid = await watched.pid();
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    // No descriptor, so the socket takes no message any more.
    watched.guard.add(2, 1 << 20, () => undefined);
    await watched.hears('died');
    watched.guard.remove(2);
    await goneSoon(pid);
    await eventually('another one has the owner', () => watched?.guard.isReady);
    assert.equal(owner.hasEnded, false);
  });

  it('reads a deadline that was moved on in time before it looks at the clock', async () => {
    watched = new Watched();
    watched.arm(600);
    const owner = await startOwner();
    assert.equal(await watched.add(1, owner), 0);
    const pid = await watched.pid();
    process.kill(pid, 'SIGSTOP');
    watched.arm(LATER);
    const past = posix.boottime() + 800;
    await eventually('the first deadline is past', () => posix.boottime() > past);
    process.kill(pid, 'SIGCONT');
    assert.equal(await watched.add(1, owner), 0);
    assert.deepEqual([owner.hasEnded, watched.heard], [false, []]);
  });

  it('goes on for the next program, which removes whom it does not know', async () => {
    const former = new Watched();
    watched = former;
    former.arm(LATER);
    const [kept, dropped, later] = await startOwners(3);
    assert.ok(kept && dropped && later);
    assert.equal(await former.add(1, kept), 0);
    assert.equal(await former.add(2, dropped), 0);
    const { state } = former.guard;
    const pid = await former.pid();
    assert.ok(state !== undefined);
    // As the copy that outlives exec does.
    const socket = posix.duplicate(state.socket);
    former.guard.end();
    const next = new Watched();
    const idle = await next.pid();
    next.guard.end();
    await goneSoon(idle);
    Object.assign(next, {
      guard: new Guard({ fence: 'kill' }, { poller, start: startGuard }, next, { socket, pid: state.pid }),
    });
    watched = next;
    next.arm(LATER);
    assert.equal(await next.add(1, kept), 0);
    next.guard.keep(new Set([1]));
    // While the guard is asked whom it has.
    assert.equal(await next.add(3, later), 0);
    assert.equal(await next.pid(), pid);
    assert.equal(next.guard.isReady, true);
    next.arm(1);
    assert.equal(await kept.end(), 'SIGKILL');
    await next.hears('cleared');
    assert.deepEqual(next.heard, ['fired 2', 'cleared']);
    assert.equal(await later.end(), 'SIGKILL');
    assert.equal(dropped.hasEnded, false);
  });

  it('reports who cannot be killed in time, where no reboot is wanted', async function () {
    skipIf(this, missingFuse());
    const mount = join(directory.path, 'storage');
    const storage = await HangingStorage.mountAt(mount);
    try {
      await storage.hang('open');
      const child = spawn('cat', [join(mount, 'disk')], { stdio: 'ignore' });
      const pid = child.pid ?? 0;
      await storage.asked('open');
      const pidfd = posix.pidfdOpen(pid);
      watched = new Watched();
      watched.arm(300, 600);
      assert.equal(await watched.add(1, { pidfd }), 0);
      await watched.hears(`fencing 1 ${-EOPNOTSUPP}`);
      assert.equal(child.signalCode, null);
      await storage.letGo();
      await watched.hears('cleared');
      assert.deepEqual(watched.heard, ['fired 1', `fencing 1 ${-EOPNOTSUPP}`, 'cleared']);
      posix.close(pidfd);
    } finally {
      await storage.letGo();
      await storage.end();
      unmount(mount);
    }
  });

  it('has the host reboot, where that is wanted: in a pid namespace, which the kernel ends', async function () {
    skipIf(this, missingRoot());
    const sysrq = join(directory.path, 'sysrq');
    writeFileSync(sysrq, '');
    // The owner is in the namespace itself. Nobody is gone at the very moment of the deadline.
    const plan = { options: { fence: 'reboot', sysrq }, pids: [1], killAfter: 500, goneAfter: 500 } as const;
    const words = ['--pid', '--fork', '--kill-child', join(installRoot, 'scripts/node')];
    const daemon = join(import.meta.dirname, 'guard-daemon.ts');
    const child = spawn('unshare', [...words, daemon, JSON.stringify(plan)], { stdio: ['pipe', 'ignore', 'inherit'] });
    daemons.push(child);
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    // unshare ends as its child has: the kernel sends the first process of a namespace SIGHUP for a reboot.
    assert.ok(signal === 'SIGHUP' || code === 128 + constants.signals.SIGHUP, `${code} ${signal}`);
    assert.equal(readFileSync(sysrq, 'latin1')[0], 'b');
  });

  it('is locked in memory, says whether the OOM killer may choose it, and blocks every signal that can be', async function () {
    skipIf(this, missingRoot());
    watched = new Watched();
    const pid = await watched.pid();
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    assert.match(status, /^Name:\tvirtlockd-guard$/m);
    assert.match(status, /^SigBlk:\tfffffffffffbfeff$/m);
    assert.notEqual(/^VmLck:\s+(\d+) kB$/m.exec(status)?.[1], '0');
    const score = readFileSync(`/proc/${pid}/oom_score_adj`, 'latin1').trim();
    const { properties } = watched.guard;
    assert.equal(properties?.isLockedInMemory, true);
    // A container may not be allowed to.
    assert.equal(properties.isOomExempt, score === '-1000');
    assert.equal(properties.feedsWatchdog, false);
    assert.match(
      log.lines.at(-1) ?? '',
      /^warning: No hardware watchdog is configured \(etcd_watchdog\): .*power fencing alone/,
    );
  });

  describe('feeds a watchdog', () => {
    /** Has a file take the calls of a watchdog: each byte in it has fed it. @param calls of strace, by which ioctl succeeds */
    const startWith =
      (calls: readonly string[], record = '/dev/null'): GuardLink['start'] =>
      (socket, { fence, watchdog = '', watchdogSeconds = 0 }, onEnd) => {
        const args = guardArguments({ fence, watchdog, watchdogSeconds, sysrq: '/dev/null' });
        const words = [...calls, join(installRoot, 'dist/etcd-guard'), ...args];
        spawn('strace', ['-f', '-qq', '-o', record, ...words], { stdio: ['ignore', 'ignore', 'inherit', socket] });
        onEnd();
      };
    const SUCCEED = ['-e', 'trace=ioctl', '-e', 'inject=ioctl:retval=0'];
    const device = (): string => {
      const path = join(directory.path, 'watchdog');
      writeFileSync(path, '');
      return path;
    };
    const fed = (path: string): string => readFileSync(path, 'latin1');

    const WATCHDOG = { fence: 'kill', watchdogSeconds: 1 } as const;
    /** Waits for more feeds than `before` has. */
    const fedAgain = async (path: string, before = fed(path)): Promise<unknown> =>
      eventually('it is fed', () => fed(path).length > before.length + 1);
    /** How often the device has been told to stand still or to count again, by turns: strace does not say which. */
    const switched = (record: string): number => readFileSync(record, 'latin1').split('WDIOC_SETOPTIONS').length - 1;

    it('while it has owners, has it stand still while there is none, and stops it when it ends', async function () {
      skipIf(this, missingStrace());
      const path = device();
      const record = join(directory.path, 'calls');
      watched = new Watched({ ...WATCHDOG, watchdog: path }, startWith(SUCCEED, record));
      const pid = await watched.pid();
      assert.equal(watched.guard.properties?.feedsWatchdog, true);
      await eventually('it stands still', () => switched(record) === 1);
      assert.equal(fed(path), '');
      watched.arm(LATER);
      const owner = await startOwner();
      assert.equal(await watched.add(1, owner), 0);
      // Before the owner can get a lock.
      assert.equal(switched(record), 2);
      await fedAgain(path);
      watched.guard.remove(1);
      await eventually('it stands still again', () => switched(record) === 3);
      const all = fed(path);
      assert.equal(await watched.pid(), pid);
      watched.guard.end();
      await goneSoon(pid);
      assert.equal(fed(path), `${all}V`);
    });

    it('until its last owner has ended, also after the daemon', async function () {
      skipIf(this, missingStrace());
      const path = device();
      watched = new Watched({ ...WATCHDOG, watchdog: path }, startWith(SUCCEED));
      const pid = await watched.pid();
      watched.arm(LATER);
      const owner = await startOwner();
      assert.equal(await watched.add(1, owner), 0);
      watched.guard.end();
      await fedAgain(path);
      assert.ok(!isGone(pid));
      owner.child.kill('SIGKILL');
      await goneSoon(pid);
      assert.match(fed(path), /^\0+V$/);
    });

    it('no more as soon as all that it has killed are gone, which may be a moment before the reset', async function () {
      skipIf(this, missingStrace());
      const path = device();
      const record = join(directory.path, 'calls');
      // Fed every 15 s.
      watched = new Watched({ fence: 'kill', watchdog: path, watchdogSeconds: 60 }, startWith(SUCCEED, record));
      await watched.pid();
      watched.arm(LATER);
      const owner = await startOwner();
      assert.equal(await watched.add(1, owner), 0);
      watched.arm(1);
      await watched.hears('cleared');
      assert.equal(switched(record), 1);
    });

    it('that cannot be stopped, also while it has no owner, and asks it once', async function () {
      skipIf(this, missingStrace());
      const path = device();
      const record = join(directory.path, 'calls');
      // Of support and time.
      const nowayout = ['-e', 'trace=ioctl', '-e', 'inject=ioctl:retval=0:when=1..2'];
      watched = new Watched({ ...WATCHDOG, watchdog: path }, startWith(nowayout, record));
      await watched.pid();
      await fedAgain(path);
      await fedAgain(path);
      assert.equal(switched(record), 1);
      assert.equal(watched.guard.properties?.feedsWatchdog, true);
    });

    for (const fence of ['reboot', 'kill'] as const) {
      const does = fence === 'reboot' ? 'is not fed any more in time for a reset' : 'is fed on';
      it(`which ${does} by the end of the lease, where an owner cannot be killed and "${fence}" is wanted`, async function () {
        skipIf(this, missingRoot(), missingStrace());
        const path = device();
        const sysrq = join(directory.path, 'sysrq');
        const record = join(directory.path, 'calls');
        writeFileSync(sysrq, '');
        // In a pid namespace, whose first process nobody in it can kill, and which ends with a reboot.
        const options = { fence, sysrq, watchdog: path, watchdogSeconds: 1 };
        const plan = { options, pids: [1], killAfter: 1000, goneAfter: 3500 };
        const child = spawn(
          'unshare',
          [
            ...['--pid', '--fork', '--kill-child', 'strace', '-D', '-f', '-qq', '-ttt', '-o', record],
            ...['-P', path, '-P', sysrq, '-e', 'trace=ioctl,write', '-e', 'inject=ioctl:retval=0'],
            ...[join(installRoot, 'scripts/node'), join(import.meta.dirname, 'guard-daemon.ts'), JSON.stringify(plan)],
          ],
          { stdio: ['pipe', 'pipe', 'inherit'] },
        );
        daemons.push(child);
        let said = '';
        child.stdout.on('data', (data: Buffer) => (said += data.toString('latin1')));
        const ended = once(child, 'exit');
        if (fence === 'reboot') {
          await ended;
          const calls = readFileSync(record, 'latin1').split('\n');
          const time = (what: RegExp): number =>
            Number(/[0-9]+\.[0-9]+/.exec(calls.findLast((c) => what.test(c)) ?? '')?.[0]);
          const early = time(/write.*"b"/) - time(/write.*"\\0"/);
          // Within a quarter of the device's time before the last moment.
          assert.ok(early > 1 && early < 1.4, `${early} s`);
        } else {
          await eventually('it says that an owner is not gone', () => said.includes('fencing 1'));
          await fedAgain(path);
          await fedAgain(path);
          child.kill('SIGKILL');
          await ended;
        }
      });
    }

    it('that another process feeds as soon as that ends, and says so', async function () {
      skipIf(this, missingStrace());
      const path = device();
      const busy = [...SUCCEED, '-P', path, '-e', 'trace=ioctl,openat', '-e', 'inject=openat:error=EBUSY:when=1..2'];
      watched = new Watched({ fence: 'kill', watchdog: path, watchdogSeconds: 1 }, startWith(busy));
      await watched.pid();
      assert.equal(watched.guard.properties?.feedsWatchdog, false);
      assert.match(log.lines.join('\n'), /watchdog is no watchdog that can be fed by now/);
      watched.arm(LATER);
      assert.equal(await watched.add(1, await startOwner()), 0);
      await fedAgain(path);
      watched.arm(LATER);
      await eventually('the daemon hears of it', () => /^warning: The guard .* feeds \S+/.test(log.lines.at(-1) ?? ''));
    });

    it('that cannot be set to the time, which does not count', async function () {
      skipIf(this, missingStrace());
      const path = device();
      const coarse = ['-e', 'trace=ioctl', '-e', 'inject=ioctl:retval=0:when=1'];
      watched = new Watched({ fence: 'kill', watchdog: path, watchdogSeconds: 1 }, startWith(coarse));
      await eventually('it is fed', () => fed(path).length > 2);
      assert.equal(watched.guard.properties?.feedsWatchdog, false);
    });

    it('that is one: of another file the operator is told, and nothing is written to it', async () => {
      const path = device();
      watched = new Watched({ fence: 'kill', watchdog: path, watchdogSeconds: 1 });
      await watched.pid();
      assert.equal(watched.guard.properties?.feedsWatchdog, false);
      assert.equal(fed(path), '');
      assert.match(log.lines.join('\n'), /^warning: \S+watchdog is no watchdog that can be fed/m);
    });

    it('but none where the operator has said that there is none, without a warning', async () => {
      const before = log.lines.length;
      watched = new Watched({ fence: 'kill', watchdog: 'none' });
      await watched.pid();
      // An ordinary user is warned of other things.
      assert.doesNotMatch(log.lines.slice(before).join('\n'), /watchdog/);
    });
  });

  it('starts nothing that the daemon would have to reap', async () => {
    watched = new Watched();
    const pid = await watched.pid();
    const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(process.pid)], { encoding: 'latin1' });
    assert.ok(!children.split('\n').map(Number).includes(pid));
  });
});
