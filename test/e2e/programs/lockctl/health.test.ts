/** virt-lockctl health and its ways out, with real guests whose lock daemon died without a descriptor store. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../../src/libvirt/paths.ts';
import { C_PROGRAM, displace, type LockDaemon, programOf, startDaemon } from '../../../../src/lab/start.ts';
import { makeImage } from '../../../../src/lab/guest.ts';
import { Libvirtd } from '../../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../../src/lab/observe.ts';
import { eventually, type Finished } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { missingPrometheus, Prometheus } from '../../../support/prometheus.ts';
import { skipIf } from '../../../support/skip.ts';
import { underTest } from '../../under-test.ts';

const program = join(checkout, 'bin/virt-lockctl');

interface Group {
  severity: string;
  kind: string;
  count: number;
  commands: string[];
  items: { text: string; path?: string; pid?: number; vm?: string }[];
}

interface Health {
  verdict: string;
  summary: string;
  daemon: string;
  locks: number | null;
  guests: number;
  findings: Group[];
}

describe('virt-lockctl health with guests', function () {
  this.timeout(120_000);
  let lab: Lab;
  let daemon: LockDaemon;
  let libvirtd: Libvirtd;
  let prometheus: Prometheus;
  const image = (name: string): string => join(lab.directory, `${name}.img`);
  const lockctl = async (...args: readonly string[]): Promise<Finished> => lab.run(program, args);

  /** By exit status, JSON, metrics and status, which must agree. */
  const health = async (): Promise<Health> => {
    const { code, stdout, stderr } = await lockctl('health', '--json');
    assert.equal(stderr, '');
    const found = JSON.parse(stdout) as Health;
    assert.equal(code, found.verdict === 'ok' ? 0 : found.daemon === 'none' ? 3 : 1, stdout);
    const file = join(lab.directory, 'health.prom');
    await lockctl('metrics', '--write', file);
    const metrics = readFileSync(file, 'utf8');
    const number = { ok: 0, warning: 1, error: 2 }[found.verdict];
    assert.match(metrics, new RegExp(`^virtlockd_verdict ${number}$`, 'm'));
    for (const { severity, kind, count } of found.findings) {
      assert.match(
        metrics,
        new RegExp(`^virtlockd_findings\\{severity="${severity}",kind="${kind}"\\} ${count}$`, 'm'),
      );
    }
    if (found.daemon !== 'own') return found;
    assert.match((await lockctl('status')).stdout, new RegExp(`^verdict +${found.verdict.toUpperCase()}: `, 'm'));
    return found;
  };
  /** And by the page and the alert. */
  const healthEverywhere = async (): Promise<Health> => {
    const found = await health();
    await eventually(
      'the page agrees',
      async () => {
        const state = (await (await fetch(new URL('state', prometheus.page))).json()) as { health: Health | null };
        return state.health?.verdict === found.verdict && state.health.summary === found.summary;
      },
      20_000,
    );
    await prometheus.untilAlert(
      'VirtlockdUnsafe',
      found.findings.some(({ severity, kind }) => severity === 'error' && kind !== 'daemon-down'),
    );
    return found;
  };
  const kindsOf = ({ findings }: Health): string[] =>
    findings.filter(({ severity }) => severity !== 'info').map(({ kind, count }) => `${kind} ${count}`);
  const group = ({ findings }: Health, kind: string): Group => {
    const found = findings.find((one) => one.kind === kind);
    assert.ok(found !== undefined, `no ${kind} in ${JSON.stringify(findings, null, 2)}`);
    return found;
  };
  /** Runs what the tool has printed below "Way out". */
  const takeWaysOut = async (): Promise<string[]> => {
    const { stdout } = await lockctl('health');
    const commands = [...stdout.matchAll(/^ {4}(\S.*)$/gm)].map(([, command = '']) => command);
    for (const command of commands) {
      const {
        code,
        stdout: said,
        stderr,
      } = await lab.run('/bin/sh', ['-c', `PATH=${join(checkout, 'bin')}:$PATH; ${command}`]);
      assert.equal(code, 0, `${command}: ${said}${stderr}`);
    }
    return commands;
  };
  /** The daemon dies as it does without a store, and another is started. */
  const replaceByDeath = async (): Promise<void> => {
    await daemon.stop('SIGKILL');
    daemon = await startDaemon('ours', { lab, program: PROGRAM });
  };

  /** A swap exchanges the program at the path by which the daemon was started. */
  const startC = async (): Promise<void> => {
    const copy = '/usr/sbin/virtlockd-to-be-swapped';
    await lab.run('rm', ['-f', copy, `${copy}.before-swap`]);
    await lab.run('cp', [C_PROGRAM, copy]);
    daemon = await startDaemon('9.0.0', { lab, program: copy });
  };

  before(async function () {
    skipIf(
      this,
      underTest === 'ours' ? undefined : 'the C daemon answers no inquiries',
      missingDaemon('ours'),
      missingDaemon('9.0.0'),
      missingGuests('9.0.0'),
      missingPrometheus(),
    );
    lab = await openLab();
    displace(lab, programOf('ours'));
    daemon = await startDaemon('ours', { lab, program: PROGRAM });
    libvirtd = new Libvirtd(lab);
    await libvirtd.start();
    for (const name of ['db', 'web', 'shared']) makeImage(lab.directory, `${name}.img`);
    await libvirtd.run({ name: 'db', disks: [{ image: image('db') }] });
    await libvirtd.run({
      name: 'web',
      disks: [{ image: image('web') }, { image: image('shared'), access: 'shareable' }],
    });
    prometheus = await Prometheus.start(lab);
  });

  after(async () => {
    await (prometheus as Prometheus | undefined)?.stop();
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  it('is well while every guest has its locks', async () => {
    const found = await health();
    assert.deepEqual(kindsOf(found), []);
    assert.deepEqual([found.verdict, found.guests, found.locks], ['ok', 2, 3]);
    const { code, stdout } = await lockctl('health');
    assert.equal(code, 0);
    assert.match(stdout, /^OK: 2 guests, 3 locks, all confirmed by the kernel\.$/m);
  });

  it('names each guest without a lock after a death, and the printed ways out make all well again', async () => {
    await replaceByDeath();
    const found = await healthEverywhere();
    assert.deepEqual(kindsOf(found), ['unguarded-disk 3']);
    assert.deepEqual(
      group(found, 'unguarded-disk')
        .items.map(({ text }) => text)
        .sort(),
      [
        `guest db (pid ${libvirtd.pidOf('db')}) runs without a lock on ${image('db')}`,
        `guest web (pid ${libvirtd.pidOf('web')}) runs without a lock on ${image('shared')}`,
        `guest web (pid ${libvirtd.pidOf('web')}) runs without a lock on ${image('web')}`,
      ],
    );
    assert.match(
      group(found, 'death').items[0]?.text ?? '',
      /^the daemon has started at \S+Z, after 2 guests without a lock: /,
    );
    assert.equal((await takeWaysOut()).length, 2);
    assert.deepEqual(kindsOf(await healthEverywhere()), []);
  });

  it('has what libvirt took for a guest without a connection end with the guest, which then starts again', async () => {
    await libvirtd.must('destroy', 'db');
    await eventually('its lock is gone', async () => (await lockctl('who', image('db'))).code === 1);
    await libvirtd.run({ name: 'db', disks: [{ image: image('db') }] });
    // Also where libvirt does not see it.
    const web = libvirtd.pidOf('web');
    process.kill(libvirtd.pid, 'SIGSTOP');
    try {
      process.kill(web, 'SIGKILL');
      await eventually('its locks are gone', async () => (await lockctl('who', image('web'))).code === 1);
    } finally {
      process.kill(libvirtd.pid, 'SIGCONT');
    }
    await eventually('libvirt knows', async () => !(await libvirtd.guests()).includes('web'));
    assert.deepEqual(kindsOf(await health()), []);
  });

  it('still watches such a guest after a re-execution', async () => {
    await replaceByDeath();
    await takeWaysOut();
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it has executed itself', async () => {
      const { stdout } = await lockctl('status', '--json');
      return (JSON.parse(stdout) as { restarts: number }).restarts === 1;
    });
    await eventually('all is well', async () => (await lockctl('health', '--quiet')).code === 0);
    await libvirtd.must('destroy', 'db');
    await eventually('its lock is gone', async () => (await lockctl('who', image('db'))).code === 1);
    await libvirtd.run({ name: 'db', disks: [{ image: image('db') }] });
  });

  it('has no false alarm of a paused guest', async () => {
    await libvirtd.must('suspend', 'db');
    assert.equal(lockOn(daemon.pid, image('db')), undefined);
    assert.deepEqual(kindsOf(await health()), []);
    await libvirtd.must('resume', 'db');
  });

  it('is well after each step of a snapshot and its commit', async () => {
    const steps = [
      [
        'snapshot-create-as',
        'db',
        'overlay',
        '--disk-only',
        '--no-metadata',
        '--diskspec',
        `vda,file=${image('overlay')}`,
      ],
      ['blockcommit', 'db', 'vda', '--active', '--pivot', '--wait'],
    ];
    for (const step of steps) {
      await libvirtd.must(...step);
      assert.deepEqual(kindsOf(await health()), [], step[0]);
    }
  });

  it('is well while a block copy runs and mirrors, after its abort, and after a pivot to it and back', async () => {
    const wellWith = async (step: string, ...locked: readonly string[]): Promise<void> => {
      assert.deepEqual(kindsOf(await health()), [], step);
      const { code, stdout } = await lockctl('check');
      assert.equal(code, 0, `${step}: ${stdout}`);
      const held = ['db', 'copy'].filter((name) => lockOn(daemon.pid, image(name)) === 'WRITE 0 0');
      assert.deepEqual(held, locked, step);
    };
    const copyTo = async (name: string, ...options: readonly string[]): Promise<void> => {
      await libvirtd.must('blockcopy', 'db', 'vda', image(name), '--format', 'raw', '--transient-job', ...options);
    };
    const pivot = async (): Promise<void> => {
      await eventually(
        'the copy is whole',
        async () => (await libvirtd.virsh('blockjob', 'db', 'vda', '--pivot')).code === 0,
      );
    };
    // 64 KiB a second, of 1 MiB.
    await copyTo('copy', '--bandwidth', '65536', '--bytes');
    await wellWith('a copy runs', 'db', 'copy');
    await libvirtd.must('blockjob', 'db', 'vda', '--abort');
    await wellWith('aborted', 'db');
    await copyTo('copy', '--wait', '--reuse-external');
    await wellWith('a copy mirrors', 'db', 'copy');
    await pivot();
    await wellWith('pivoted', 'copy');
    await copyTo('db', '--wait', '--reuse-external');
    await pivot();
    await wellWith('pivoted back', 'db');
  });

  it('finds a file that was exchanged, and so do who and status', async () => {
    renameSync(image('db'), image('moved'));
    writeFileSync(image('db'), '');
    const found = await health();
    assert.deepEqual(kindsOf(found), ['replaced-file 1']);
    assert.match((await lockctl('who', image('db'))).stdout, /the file at its path was exchanged/);
    renameSync(image('moved'), image('db'));
    assert.deepEqual(kindsOf(await health()), []);
  });

  it('names the guests that nothing guards while no daemon runs', async () => {
    await daemon.stop('SIGKILL');
    const found = await health();
    assert.deepEqual([found.daemon, kindsOf(found)], ['none', ['unguarded-disk 1', 'daemon-down 1']]);
  });

  it('sees the same from outside with the C daemon, before and after a live swap', async () => {
    await startC();
    const unguarded = await healthEverywhere();
    assert.deepEqual([unguarded.daemon, kindsOf(unguarded)], ['libvirt', ['unguarded-disk 1']]);
    const [command = ''] = group(unguarded, 'unguarded-disk').commands;
    assert.equal((await lab.run('/bin/sh', ['-c', `PATH=${join(checkout, 'bin')}:$PATH; ${command}`])).code, 0);
    assert.deepEqual(kindsOf(await healthEverywhere()), []);
    const swapped = await lockctl('swap', '--to', programOf('ours'));
    assert.equal(swapped.code, 0, swapped.stdout + swapped.stderr);
    // The C daemon does not hand on which process its owner is.
    const found = await healthEverywhere();
    assert.deepEqual(kindsOf(found), ['detached-owner 1']);
    await takeWaysOut();
    assert.deepEqual(kindsOf(await healthEverywhere()), []);
  });

  it('releases what a C daemon has left of a dead guest, once the operator says that its pid is of this host', async () => {
    await daemon.stop('SIGKILL');
    await startC();
    const [command = ''] = group(await health(), 'unguarded-disk').commands;
    assert.equal((await lab.run('/bin/sh', ['-c', command])).code, 0);
    const swapped = await lockctl('swap', '--to', programOf('ours'));
    assert.equal(swapped.code, 0, swapped.stdout + swapped.stderr);
    await libvirtd.must('destroy', 'db');
    const busy = await libvirtd.create({ name: 'db', disks: [{ image: image('db') }] });
    assert.match(busy.stderr, /resource busy/);
    const found = await health();
    assert.deepEqual(kindsOf(found), ['dead-owner 1']);
    const [release = ''] = group(found, 'dead-owner').commands;
    const released = await lab.run('/bin/sh', ['-c', `PATH=${join(checkout, 'bin')}:$PATH; echo y | ${release}`]);
    assert.equal(released.code, 0, released.stdout + released.stderr);
    assert.deepEqual(kindsOf(await health()), []);
    await libvirtd.run({ name: 'db', disks: [{ image: image('db') }] });
  });

  it('knows the lock on a disk in an indirect lockspace', async () => {
    await libvirtd.must('destroy', 'db');
    await libvirtd.stop();
    const indirect = join(lab.directory, 'indirect');
    mkdirSync(indirect, { mode: 0o700 });
    libvirtd = new Libvirtd(lab, { fileLockspace: indirect });
    await libvirtd.start();
    await libvirtd.run({ name: 'db', disks: [{ image: image('db') }] });
    // Under a name that does not lead to the locked one.
    await lab.run('ln', ['-s', image('web'), image('link')]);
    await libvirtd.run({ name: 'web', disks: [{ image: image('link') }] });
    assert.deepEqual(kindsOf(await health()), []);
    await daemon.stop('SIGKILL');
    daemon = await startDaemon('ours', { lab, program: PROGRAM });
    assert.deepEqual(kindsOf(await health()), ['unguarded-disk 2']);
    // The lockspace is forgotten, too.
    assert.equal((await takeWaysOut())[0], `virt-lockctl lockspace create ${indirect}`);
    assert.deepEqual(kindsOf(await health()), []);
    // From outside as well.
    await daemon.stop('SIGKILL');
    await startC();
    await takeWaysOut();
    assert.deepEqual(kindsOf(await health()), []);
  });
});
