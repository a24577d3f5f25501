/** virt-lockctl with real guests, compared with libvirt and the kernel. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../../src/libvirt/paths.ts';
import { type LockDaemon, programOf, startDaemon, displace, C_PROGRAM } from '../../../../src/lab/start.ts';
import { indirectName, makeImage } from '../../../../src/lab/guest.ts';
import { Libvirtd } from '../../../../src/lab/libvirtd.ts';
import { type LockRow, lockOn } from '../../../../src/lab/observe.ts';
import { eventually, type Finished } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { lock } from '../../../../src/lab/wire.ts';
import { underTest } from '../../under-test.ts';

const program = join(checkout, 'bin/virt-lockctl');

interface JsonOwner {
  pid: number;
  name: string | null;
  uuid: string | null;
  since: string | null;
  client: number | null;
  identity: string;
}

interface JsonLock {
  lockspace: string;
  name: string;
  path: string;
  mode: string;
  file: string;
  inode: number;
  owners: JsonOwner[];
}

describe('virt-lockctl with guests', function () {
  this.timeout(60_000);
  let lab: Lab;
  let daemon: LockDaemon;
  let libvirtd: Libvirtd;
  let indirect: string;
  let leases: string;
  const image = (name: string): string => join(lab.directory, `${name}.img`);

  const lockctl = async (...args: readonly string[]): Promise<Finished> => lab.run(program, args);
  const must = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await lockctl(...args);
    assert.deepEqual([code, stderr], [0, ''], `virt-lockctl ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  const listed = async (...args: readonly string[]): Promise<JsonLock[]> =>
    JSON.parse(await must('list', '--json', ...args)) as JsonLock[];
  /** All it holds but its pid file. */
  const kernelLocks = (): LockRow[] => {
    const { ino } = statSync(lab.outside('/run/virtlockd.pid'));
    return daemon.locks().filter(({ inode }) => inode !== ino);
  };

  before(async function () {
    skipIf(
      this,
      underTest === 'ours' ? undefined : 'the C daemon answers no inquiries',
      missingDaemon('ours'),
      missingDaemon('9.0.0'),
      missingGuests('9.0.0'),
    );
    lab = await openLab();
    displace(lab, programOf('ours'));
    daemon = await startDaemon('ours', { lab, program: PROGRAM });
    indirect = join(lab.directory, 'indirect');
    leases = join(lab.directory, 'leases');
    mkdirSync(indirect, { mode: 0o700 });
    libvirtd = new Libvirtd(lab);
    await libvirtd.start();
  });

  after(async function () {
    this.timeout(60_000);
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  it('has nothing to say of a daemon that holds nothing', async () => {
    assert.deepEqual(await listed(), []);
    assert.equal(await must('list'), 'No lock is held.\n');
    assert.match(await must('check'), /^OK: 0 locks, all confirmed by the kernel\.$/m);
  });

  it('makes the lease that a guest needs', async () => {
    const text = await must('lease', 'create', leases, 'key');
    assert.match(text, /<lockspace>leases<\/lockspace>\n {2}<key>key<\/key>\n {2}<target path='[^']+'\/>/);
    assert.match(await must('lockspace', 'list'), new RegExp(`^0 +ok +${leases}$`, 'm'));
    assert.match(await must('lease', 'list', leases), /^key +-$/m);
  });

  it('lists the locks of four kinds of guests as libvirt and the kernel know them', async () => {
    for (const name of ['plain', 'shared', 'indirect']) makeImage(lab.directory, `${name}.img`);
    await libvirtd.run({ name: 'plain', disks: [{ image: image('plain') }] });
    for (const name of ['shared1', 'shared2']) {
      await libvirtd.run({ name, disks: [{ image: image('shared'), access: 'shareable' }] });
    }
    await libvirtd.run({ name: 'lease', leases: [{ lockspace: 'leases', key: 'key', target: lab.directory }] });
    await libvirtd.stop();
    libvirtd = new Libvirtd(lab, { fileLockspace: indirect });
    await libvirtd.start();
    await libvirtd.run({ name: 'indirect', disks: [{ image: image('indirect') }] });

    const locks = await listed();
    assert.deepEqual(
      locks.map(({ inode }) => inode).sort(),
      kernelLocks()
        .map(({ inode }) => inode)
        .sort(),
    );
    for (const { inode, mode, file } of locks) {
      const row = kernelLocks().find((candidate) => candidate.inode === inode);
      assert.equal(mode, row?.access === 'WRITE' ? 'exclusive' : 'shared');
      assert.equal(file, 'same');
    }
    const owners = locks.flatMap((held) => held.owners);
    assert.deepEqual(owners.map(({ name }) => name).sort(), await libvirtd.guests());
    for (const { name, uuid, pid, identity, since } of owners) {
      assert.equal(uuid, await libvirtd.must('domuuid', name ?? ''));
      assert.equal(pid, libvirtd.pidOf(name ?? ''));
      assert.equal(identity, 'registered');
      assert.ok(Date.now() - Date.parse(since ?? '') < 60_000);
    }
    const table = await must('list');
    for (const name of await libvirtd.guests())
      assert.match(table, new RegExp(`^${name} +\\d+ +(exclusive|shared) `, 'm'));
  });

  it('lists by every filter', async () => {
    const names = async (...args: readonly string[]): Promise<(string | null)[]> =>
      (await listed(...args)).flatMap(({ owners }) => owners.map(({ name }) => name)).sort();
    const uuid = await libvirtd.must('domuuid', 'lease');
    assert.deepEqual(await names('--vm', 'plain'), ['plain']);
    assert.deepEqual(await names('--uuid', uuid), ['lease']);
    assert.deepEqual(await names('--pid', String(libvirtd.pidOf('indirect'))), ['indirect']);
    assert.deepEqual(await names('--lockspace', leases), ['lease']);
    assert.deepEqual(await names('--lockspace', '', '--resource', image('shared')), ['shared1', 'shared2']);
    assert.deepEqual(await names('--path', image('indirect')), ['indirect']);
    assert.deepEqual(await names('--vm', 'plain', '--lockspace', leases), []);
  });

  const guests = { plain: 'plain', shared: 'shared1', indirect: 'indirect' } as const;
  for (const [disk, guest] of Object.entries(guests)) {
    it(`who finds the guest by its disk: ${disk}`, async () => {
      assert.match(
        await must('who', image(disk)),
        new RegExp(`^${guest} \\(pid ${libvirtd.pidOf(guest)}\\) holds an? `, 'm'),
      );
    });
  }

  it('who finds a guest by its lease, and by another name of its disk', async () => {
    assert.match(await must('who', join(leases, 'key')), /^lease \(pid \d+\) holds an exclusive lock/m);
    await lab.run('ln', ['-s', image('plain'), image('link')]);
    assert.match(await must('who', image('link')), /^plain \(pid/m);
  });

  describe('about files that others lock', () => {
    let outsider: ChildProcess | undefined;
    const lockFrom = async (call: string): Promise<number> => {
      const code = `import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
${call}
print('locked', flush=True)
sys.stdin.read()`;
      const child = spawn('python3', ['-c', code, image('outside')], { stdio: ['pipe', 'pipe', 'inherit'] });
      outsider = child;
      await once(child.stdout, 'data');
      return child.pid ?? 0;
    };
    afterEach(async () => {
      if (outsider === undefined) return;
      const ended = once(outsider, 'exit');
      outsider.stdin?.end();
      await ended;
      outsider = undefined;
    });

    it('who names the process of a POSIX lock, and why says what it would do', async () => {
      const pid = await lockFrom('fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)');
      assert.match(
        await must('who', image('outside')),
        new RegExp(`Not a guest of this daemon: pid ${pid} \\(python3\\) holds a POSIX write lock`),
      );
      const { code, stdout } = await lockctl('why', image('outside'));
      assert.equal(code, 1);
      assert.match(stdout, new RegExp(`^It would be refused: pid ${pid} \\(python3\\) holds a write lock`));
    });

    it('who says what it can of an OFD lock', async () => {
      const pid = await lockFrom("fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))");
      assert.match(await must('who', image('outside')), new RegExp(`pid ${pid} \\(python3\\) holds an OFD write lock`));
    });

    it('who says that nobody does', async () => {
      const { code, stdout } = await lockctl('who', image('outside'));
      assert.deepEqual([code, stdout], [1, `No lock on ${image('outside')}.\n`]);
      assert.equal((await lockctl('who', image('never'))).code, 1);
    });
  });

  it('why says what an acquire would meet', async () => {
    const refused = await lockctl('why', image('plain'));
    assert.equal(refused.code, 1);
    assert.match(refused.stdout, /^It would be refused: plain \(pid \d+\) holds an exclusive lock/);
    assert.match(await must('why', '--shared', image('shared')), /^It would be granted: shared with shared1/);
    assert.equal((await lockctl('why', image('shared'))).code, 1);
    writeFileSync(image('free'), '');
    assert.match(await must('why', image('free')), /^It would be granted/);
    assert.match((await lockctl('why', '--lockspace', '/nowhere', 'key')).stdout, /the daemon has no lockspace/);
    assert.match((await lockctl('why', image('never'))).stdout, /^It would fail: there is no file/);
  });

  it('lists the clients with what they hold', async () => {
    const clients = JSON.parse(await must('clients', '--json', '--locks')) as {
      pid: number;
      isOwner: boolean;
      owner: { name: string; pid: number };
      locks: JsonLock[];
    }[];
    assert.deepEqual(
      clients
        .filter(({ isOwner }) => isOwner)
        .map(({ owner }) => owner.name)
        .sort(),
      await libvirtd.guests(),
    );
    for (const { owner, pid, locks } of clients) {
      assert.equal(pid, libvirtd.pidOf(owner.name));
      assert.equal(locks.length, 1);
    }
    assert.match(await must('clients', '--locks'), new RegExp(`^ +exclusive +${image('plain')}$`, 'm'));
  });

  it('remembers a refusal with who was in the way, and the log names it', async () => {
    const refused = await libvirtd.create({
      name: 'late',
      leases: [{ lockspace: 'leases', key: 'key', target: lab.directory }],
    });
    assert.equal(refused.code, 1);
    const pid = libvirtd.pidOf('lease');
    const refusals = JSON.parse(await must('refusals', '--json')) as Record<string, unknown>[];
    assert.equal(refusals.length, 1);
    const [only] = refusals as [{ name: string; owner: { name: string }; holder: { name: string; pid: number } }];
    assert.deepEqual([only.name, only.owner.name, only.holder.name, only.holder.pid], ['key', 'late', 'lease', pid]);
    assert.match(
      await must('refusals'),
      new RegExp(`late \\(pid \\d+\\) +exclusive .*/leases/key +held by lease \\(pid ${pid}\\)$`, 'm'),
    );
    assert.match(
      daemon.log,
      new RegExp(
        `Refused 'key' in lockspace .*/leases to VM "late" \\(pid \\d+\\): held by VM "lease" \\(pid ${pid}\\)`,
      ),
    );
  });

  it('watches guests come and go, also across a re-execution', async () => {
    const watch = lab.spawn(program, ['watch', '--json'], {});
    try {
      await eventually('it is subscribed', async () => (await must('clients', '--admin')).includes('watching'));
      makeImage(lab.directory, 'brief.img');
      const seen = async (what: string, pattern: RegExp): Promise<void> => {
        await eventually(what, () => pattern.test(watch.output));
      };
      await libvirtd.run({ name: 'brief', disks: [{ image: image('brief') }] });
      await seen('the lock came', /"change":"acquired".*"name":"brief"/);
      process.kill(daemon.pid, 'SIGUSR1');
      await seen('the daemon executed itself', /"change":"resumed"/);
      await libvirtd.must('destroy', 'brief');
      await seen('the lock went', /"change":"released".*"name":"brief"/);
      assert.equal((await watch.stop('SIGINT')).code, 0);
    } finally {
      await watch.stop('SIGKILL');
    }
  });

  it('knows each owner, and since when, after a re-execution', async () => {
    const status = JSON.parse(await must('status', '--json')) as { restarts: number; pid: number; locks: number };
    assert.deepEqual([status.restarts, status.pid, status.locks], [1, daemon.pid, 4]);
    for (const { owners } of await listed()) {
      for (const { identity, since } of owners) assert.deepEqual([identity, since === null], ['registered', false]);
    }
  });

  it('tells metrics, on standard output and in a file', async () => {
    const text = await must('metrics');
    assert.match(text, /^virtlockd_locks 4$/m);
    assert.match(text, /^virtlockd_restarts_total 1$/m);
    const file = join(lab.directory, 'virtlockd.prom');
    await must('metrics', '--write', file);
    assert.match(readFileSync(file, 'utf8'), /^virtlockd_clients\{server="virtlockd"\} 5$/m);
  });

  it('checks every lock, and finds a file that was exchanged', async () => {
    assert.equal(await must('check'), 'OK: 4 locks, all confirmed by the kernel.\n');
    renameSync(image('plain'), image('moved'));
    writeFileSync(image('plain'), '');
    const { code, stdout } = await lockctl('check');
    assert.equal(code, 1);
    assert.match(stdout, /^error: .*plain\.img: another file is at this path now/m);
    renameSync(image('moved'), image('plain'));
    await must('check');
    // None of this has cost the daemon a lock: it opens nothing that it holds.
    assert.equal(lockOn(daemon.pid, image('plain')), 'WRITE 0 0');
  });

  it('swaps to the C daemon and back, live, and says what the C daemon cannot tell', async () => {
    // A C daemon has POSIX locks whatever kind this one had.
    const locked = (): unknown[] => kernelLocks().map(({ access, inode, start, end }) => [access, inode, start, end]);
    const before = locked();
    const dry = await must('swap', '--to', C_PROGRAM, '--dry-run');
    // The pid file's lock is not among those that it lists.
    assert.match(dry, new RegExp(`^ok +locks in the kernel: ${(await listed()).length}$`, 'm'));
    assert.match(dry, /Nothing was changed\.$/m);
    assert.match(await must('swap', '--to', C_PROGRAM), /^Swapped: libvirt's C virtlockd 9\.0\.0/m);
    assert.deepEqual(locked(), before);
    const list = await lockctl('list');
    assert.equal(list.code, 4);
    assert.match(list.stderr, /does not answer inquiries: it is libvirt's C virtlockd/);
    const who = await lockctl('who', image('plain'));
    assert.match(who.stdout, new RegExp(`pid ${daemon.pid} \\(virtlockd\\) holds a POSIX write lock`));
    assert.match(await must('swap', '--to', 'node', '--dry-run'), /ok +every client has registered/);
    assert.match(await must('swap', '--to', programOf('ours')), /^Swapped: virtlockd-node/m);
    assert.deepEqual(locked(), before);
    for (const { owners } of await listed()) {
      // The time of the acquire is lost. Live connections give the name.
      for (const { name, since, identity } of owners) {
        assert.deepEqual([identity, since], ['registered', null]);
        assert.ok((await libvirtd.guests()).includes(name ?? ''));
      }
    }
    await must('check');
  });

  it('refuses to swap a C daemon away while a client has not called', async () => {
    await must('swap', '--to', C_PROGRAM);
    const silent = await daemon.connect();
    const { code, stdout, stderr } = await lockctl('swap', '--to', programOf('ours'));
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL every client has registered.*: client \d+ has not called yet/m);
    assert.match(stderr, /nothing was changed/);
    await silent.must(lock.register({ pid: 5_000_000 }));
    silent.close();
    await must('swap', '--to', programOf('ours'));
  });

  it('refuses to swap away from a C daemon that has too few descriptors free: it would end', async () => {
    await must('swap', '--to', C_PROGRAM);
    const softLimit = (most: number): void => {
      execFileSync('prlimit', ['--pid', String(daemon.pid), `--nofile=${most}:`]);
    };
    softLimit(12);
    const { code, stdout } = await lockctl('swap', '--to', programOf('ours'));
    assert.equal(code, 1);
    assert.match(
      stdout,
      /FAIL enough descriptors .*: our launcher, beside the C daemon.* needs 8 free descriptors, and of 12 \d+ are/,
    );
    softLimit(1024);
    await must('swap', '--to', programOf('ours'));
  });

  it('names who has not registered before it swaps to a C daemon, which could not tell', async () => {
    const silent = await daemon.connect();
    const { code, stdout } = await lockctl('swap', '--to', C_PROGRAM);
    assert.equal(code, 1);
    assert.match(
      stdout,
      new RegExp(`^FAIL every client has registered.*: client \\d+ \\(pid ${process.pid}\\) has not`, 'm'),
    );
    silent.close();
  });

  it('puts the program back when the daemon refuses the new one', async () => {
    const broken = join(lab.directory, 'broken');
    writeFileSync(broken, '#!/bin/sh\n[ "$1" = --version ] && echo \'x (libvirt) 9.0.0\' && exit 0\nexit 7\n', {
      mode: 0o755,
    });
    const refused = await lockctl('swap', '--to', join(lab.directory, 'missing'));
    assert.equal(refused.code, 1);
    const { code, stderr } = await lockctl('swap', '--to', broken);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /process \d+ refuses the new program: .* exited with 7 and is no virtlockd\n[^]*The former program is back/,
    );
    assert.equal((await lab.run('readlink', [PROGRAM])).stdout.trim(), programOf('ours'));
    assert.match(await must('status'), /^warning: the re-execution of .* was refused/m);
    assert.match(await must('metrics'), /^virtlockd_restarts_refused_total 1$/m);
    await must('check');
  });

  it('lets a lease be removed only when nobody holds it', async () => {
    assert.equal((await lockctl('lease', 'delete', leases, 'key')).code, 1);
    await libvirtd.must('destroy', 'lease');
    await eventually('it is free', async () => /^key +-$/m.test(await must('lease', 'list', leases)));
    await must('lease', 'delete', leases, 'key');
    assert.equal(await must('lease', 'list', leases), 'No lease.\n');
  });

  it('says clearly that no daemon runs, and whom it would have asked', async () => {
    const none = join(lab.directory, 'none');
    const silence = /virtlockd is not running: there is no socket .*\/none\/virtlockd-admin-sock/;
    const nobody = await lockctl('--connect', none, 'status');
    assert.equal(nobody.code, 3);
    assert.match(nobody.stderr, silence);
    // `who` asks the kernel nevertheless.
    const who = await lockctl('--connect', none, 'who', image('never'));
    assert.deepEqual([who.code, who.stderr], [3, '']);
    assert.match(who.stdout, silence);
    const wrong = await lockctl('list', '--nonsense');
    assert.equal(wrong.code, 2);
    rmSync(image('free'), { force: true });
  });

  it('says clearly that access is denied', async () => {
    const denied = await lab.run(program, ['--connect', 'virtlockd:///system', 'list'], { ordinary: true });
    assert.equal(denied.code, 5, denied.stderr);
    const denial = /access to .* is denied: only the user who runs the daemon may ask it/;
    assert.match(denied.stderr, denial);
    const who = await lab.run(program, ['--connect', 'virtlockd:///system', 'who', '/none'], { ordinary: true });
    assert.equal(who.code, 5, who.stderr);
    assert.match(who.stdout, denial);
  });

  it('finds an indirect lock by the lock file, too', async () => {
    assert.match(await must('who', join(indirect, indirectName(image('indirect')))), /^indirect \(pid/m);
  });
});
