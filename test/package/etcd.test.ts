/** The package on a host with lockspaces in etcd, under a real systemd: the unit with the drop-in, and what the daemon and its guard may do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { EtcdMember } from '../../src/lab/etcd.ts';
import { eventually } from '../../src/lab/process.ts';
import { missingEtcd } from '../../src/lab/requirements.ts';
import { checkout, ownDirectories } from '../../src/lab/trees.ts';
import { blocksFor } from '../support/blocks.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile } from './deb.ts';
import { Machine, missingMachine } from './machine.ts';
import { debian12 } from './trees.ts';

const LOCKSPACE = '/var/lib/libvirt/lockd/etcd/files';
/** Of the lease. */
const SECONDS = 8;

const SYS_RESOURCE = 1n << 24n;

/** @param status of a process, in /proc */
function capabilities(name: 'CapEff' | 'CapBnd', status: string): bigint {
  return BigInt(`0x${new RegExp(`^${name}:\\t([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
}

describe('the package where lockspaces are in etcd', function () {
  this.timeout(120_000);
  let machine: Machine;
  let etcd: EtcdMember;
  let owner: ReturnType<Machine['spawn']>;
  let answers: Interface;
  let ownerPid: string;
  /** The guard that the unit alone has started. */
  let weaker: string;

  before(async function () {
    skipIf(this, missingMachine(), missingEtcd());
    const packaged = packageFile();
    etcd = await EtcdMember.start();
    machine = await Machine.boot(debian12, ownDirectories);
    copyFileSync(packaged, join(machine.directory, 'package.deb'));
    await machine.must('apt-get', 'install', '--yes', join(machine.directory, 'package.deb'));
    const configuration = `etcd_endpoints = [ "${etcd.endpoint}" ]
etcd_lease_seconds = ${SECONDS}
etcd_fence = "reboot"
etcd_watchdog = "none"
`;
    writeFileSync(machine.outside('/etc/libvirt/virtlockd.conf'), configuration);
    await machine.must('systemctl', 'restart', 'virtlockd.service');
  });

  after(async () => {
    await (machine as Machine | undefined)?.stop();
    await (etcd as EtcdMember | undefined)?.close();
  });

  const kinds = async (): Promise<string[]> => {
    const { stdout } = await machine.run('virt-lockctl', 'health', '--json');
    const { findings } = JSON.parse(stdout) as { findings: { kind: string; severity: string }[] };
    return findings.filter(({ severity }) => severity !== 'info').map(({ kind }) => kind);
  };

  async function ask(line: string): Promise<string> {
    const answer = once(answers, 'line');
    owner.stdin.write(`${line}\n`);
    const [text] = (await answer) as [string];
    return text;
  }

  /** The guard, by its pid in the machine. */
  const guard = async (): Promise<string> =>
    machine.must('sh', '-c', "grep -lx virtlockd-guard /proc/[0-9]*/comm | sed 's/[^0-9]//g'");
  const mainPid = async (): Promise<string> => (await machine.service()).MainPID ?? '';
  /** Keys of locks, with what must not change. */
  const keys = (): string[] =>
    [...etcd.keys('/virtlockd/locks/')].map(([key, value]) => `${key.slice('/virtlockd/locks'.length)} ${value}`);
  const lease = (): string => [...etcd.keys('/virtlockd/hosts/').keys()].join();

  it('does not reach it by the unit alone, and says so', async () => {
    assert.ok((await kinds()).includes('etcd-silent'));
    assert.equal(lease(), '');
    weaker = await eventually('a guard runs', guard);
  });

  it('reaches it with the drop-in, and grants a lock', async () => {
    for (const { text } of blocksFor('docs/operations/etcd.md', 'test/package/etcd.test.ts'))
      await machine.must('sh', '-ec', text);
    await eventually('the host has a lease', () => lease() !== '');
    // One that this unit allows more.
    await eventually('another guard runs', async () => (await guard()) !== weaker);
    owner = machine.spawn(join(checkout, 'scripts/node'), join(import.meta.dirname, 'etcd-owner.ts'), LOCKSPACE);
    answers = createInterface(owner.stdout);
    [ownerPid] = (await once(answers, 'line')) as [string];
    assert.equal(await ask('acquire disk'), 'ok');
    assert.equal(keys().length, 1);
    await eventually('the host is well', async () => (await kinds()).length === 0);
  });

  it('has a guard that is locked in memory, real-time, exempt from the OOM killer, and may reboot', async () => {
    const pid = await guard();
    const status = await machine.must('cat', `/proc/${pid}/status`);
    assert.notEqual(/^VmLck:\s+(\d+) kB$/m.exec(status)?.[1], '0');
    // IPC_LOCK, SYS_BOOT, SYS_NICE, SYS_RESOURCE and WAKE_ALARM, beside those of every host; a machine in a container may lack some.
    const init = await machine.must('cat', '/proc/1/status');
    assert.equal(capabilities('CapEff', status), capabilities('CapBnd', init) & 0x8_01c0_402en);
    if ((capabilities('CapBnd', init) & SYS_RESOURCE) !== 0n)
      assert.equal(await machine.must('cat', `/proc/${pid}/oom_score_adj`), '-1000');
    // The last fields are counted, for the name of a process may have spaces: the 41st is its policy, of which 1 is SCHED_FIFO.
    const stat = (await machine.must('cat', `/proc/${pid}/stat`)).replace(/^.*\) /, '').split(' ');
    assert.equal(Number(stat[38]) & 0xff, 1);
    const journal = await machine.must('journalctl', `_PID=${await mainPid()}`, '--output=cat', '--no-pager');
    assert.doesNotMatch(journal, /may not reboot|guard of locks in etcd is not/);
  });

  it('keeps lock, lease and guard over a reload and a kill -9', async () => {
    const held = [keys(), lease(), await guard()];
    const pid = await mainPid();
    const image = async (): Promise<string> => machine.must('sh', '-c', `od -An -v -tx1 /proc/${pid}/auxv`);
    const former = await image();
    await machine.must('systemctl', 'reload', 'virtlockd.service');
    await eventually('it was executed again', async () => (await image()) !== former);
    assert.equal(await ask('acquire second'), 'ok');
    assert.equal(await ask('release second'), 'ok');
    assert.deepEqual([keys(), lease(), await guard()], held);
    await eventually('the lock would outlive the daemon', async () =>
      (await machine.must('virt-lockctl', 'status')).includes('would cost no lock'),
    );
    await machine.must('kill', '-KILL', pid);
    await eventually('another process serves', async () => {
      const { MainPID = '0', SubState } = await machine.service();
      return SubState === 'running' && MainPID !== pid && MainPID !== '0';
    });
    assert.equal(await ask('acquire second'), 'ok');
    assert.equal(await ask('release second'), 'ok');
    assert.deepEqual([keys(), lease(), await guard()], held);
    // Longer than the lease would have gone on by itself.
    const from = performance.now();
    await eventually('the lease is kept alive', () => performance.now() - from > SECONDS * 1000, 20_000);
    assert.deepEqual([keys(), lease()], held.slice(0, 2));
  });

  it('has its owners killed by the guard when the daemon is stopped, and the service serves again', async () => {
    await machine.must('kill', '-STOP', await mainPid());
    await once(owner, 'exit');
    assert.equal((await machine.run('kill', '-0', ownerPid)).code, 1);
    await machine.must('kill', '-CONT', await mainPid());
    await eventually('the host has another lease', async () =>
      (await kinds()).every((kind) => kind === 'daemon-warning'),
    );
    await eventually('nothing is left', () => keys().length === 0);
  });
});
