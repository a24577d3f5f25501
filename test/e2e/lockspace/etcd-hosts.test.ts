/**
 * Two hosts whose libvirts lock disks in a lockspace that a cluster of etcd keeps, each with its libvirtd, QEMU and lock daemon: a guest is
 * refused with the other host's name, migrates there and back, and is dead before another host gets its disk when its own is cut off.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdLab } from '../../../src/lab/etcd-cluster.ts';
import { indirectName, makeImage } from '../../../src/lab/guest.ts';
import type { NetworkHost } from '../../../src/lab/network.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingCluster, missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { reexecute } from '../../../src/lab/start.ts';
import { skipIf } from '../../support/skip.ts';
import { ClusterHost, followed, withoutImageLocks } from '../../support/two-hosts.ts';

/** `file_lockspace_dir` of libvirt, below the directory that the daemon keeps in etcd. */
const LOCKSPACE = '/var/lib/libvirt/lockd/etcd/files';
/** Of the lease. Owners are killed a quarter before its end. */
const SECONDS = 8;

class EtcdHost extends ClusterHost<string> {
  readonly network: NetworkHost;

  constructor(name: string, network: NetworkHost) {
    super(name, network.lab, `${String(network.number).padStart(8, '0')}-2222-3333-4444-555555555555`);
    this.network = network;
  }
}

describe('guests on two hosts with locks in a cluster of etcd', function () {
  this.timeout(120_000);
  let storage: string | undefined;
  let etcd: EtcdLab | undefined;
  let hosts: readonly [EtcdHost, EtcdHost];

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingGuests(), missingCluster());
    storage = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-storage-'));
    etcd = await EtcdLab.open({ members: 3, hosts: 2, share: [storage] });
    const { endpoints } = etcd;
    const [one, two] = etcd.hosts.map((network, index) => new EtcdHost(`host${index + 1}`, network));
    assert.ok(one !== undefined && two !== undefined);
    hosts = [one, two];
    const configuration = `etcd_endpoints = [ ${endpoints.map((url) => `"${url}"`).join(', ')} ]
etcd_lease_seconds = ${SECONDS}
etcd_watchdog = "none"
`;
    for (const host of hosts) await host.startDaemon('ours', configuration);
    await Promise.all(hosts.map(async (host) => host.startLibvirtd(LOCKSPACE)));
  });

  after(async () => {
    for (const host of (hosts as typeof hosts | undefined) ?? []) {
      await host.stopLibvirtd();
      await host.stopDaemon();
    }
    await etcd?.close();
    if (storage !== undefined) rmSync(storage, { recursive: true, force: true });
  });

  afterEach(async () => {
    for (const { libvirtd } of hosts)
      for (const guest of await libvirtd.guests()) await libvirtd.must('destroy', guest);
  });

  /** Name of the host that has the disk's lock, as the first member has it; undefined when there is none. */
  async function holderOf(image: string): Promise<string | undefined> {
    const key = `/virtlockd/locks${LOCKSPACE}/${indirectName(image)}//x`;
    const value = await etcd?.members[0]?.control('get', '--print-value-only', key);
    if (value === undefined || value.trim() === '') return undefined;
    return (JSON.parse(value) as { host: string }).host;
  }

  const imageNamed = (name: string): string => makeImage(storage ?? '', name);

  /** Starts another guest with that disk. Returns libvirt's message; empty when it starts. */
  async function startOther({ libvirtd }: EtcdHost, image: string): Promise<string> {
    const { code, stderr } = await libvirtd.create(followed(withoutImageLocks({ name: 'other', disks: [{ image }] })));
    return code === 0 ? '' : stderr;
  }

  async function assertRefused(asker: EtcdHost, holder: EtcdHost, image: string): Promise<void> {
    assert.match(await startOther(asker, image), /resource busy: Lockspace resource '[0-9a-f]{64}' is locked/);
    await asker.logs(new RegExp(`to VM "other" \\(pid \\d+\\): held by VM "db" \\(pid \\d+\\) on host ${holder.name}`));
    const named = new RegExp(`db \\(pid ${holder.libvirtd.pidOf('db')}\\) on host ${holder.name}\\b`);
    for (const words of [['refusals'], ['why', image], ['who', image]])
      assert.match(await asker.lockctl(...words), named, words.join(' '));
  }

  it('are refused with the name of the other host, and migrate there and back', async () => {
    const [one, two] = hosts;
    const image = imageNamed('db.img');
    const pid = await one.libvirtd.run(followed({ name: 'db', disks: [{ image }] }));
    assert.equal(await holderOf(image), one.name);
    assert.match(await one.lockctl('health'), /^OK: 1 guest, 1 lock, /);
    await assertRefused(two, one, image);
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      await from.libvirtd.migrate('db', to.libvirtd, join(storage ?? '', 'migration'));
      assert.equal(await holderOf(image), to.name);
      for (const { daemon } of hosts) await reexecute(daemon);
      assert.equal(await holderOf(image), to.name);
      assert.equal(await to.stateOf('db'), 'running');
      await assertRefused(from, to, image);
    }
    assert.notEqual(one.libvirtd.pidOf('db'), pid);
    await one.libvirtd.must('destroy', 'db');
    await eventually('the lock is free', async () => (await holderOf(image)) === undefined);
  });

  it('are dead before another host gets their disks when theirs is cut off from etcd', async () => {
    const [one, two] = hosts;
    const image = imageNamed('cut.img');
    const pid = await one.libvirtd.run(followed({ name: 'db', disks: [{ image }] }));
    const bystander = await one.libvirtd.run({ name: 'local' });
    const over = new AbortController();
    const monitor = await one.monitor('db');
    const ended = monitor.followRuns(over.signal).then(async (runs) => ({
      runs,
      // Nobody else can have it while the key is there.
      holder: await holderOf(image),
    }));
    await one.network.cut(etcd?.members.map(({ host }) => host) ?? []);
    const refusals: string[] = [];
    await eventually(
      'the guest starts on the other host',
      async () => {
        const text = await startOther(two, image);
        if (text !== '') refusals.push(text);
        return text === '';
      },
      60_000,
    );
    const next = await two.monitor('other');
    const { runs, holder } = await ended;
    assert.equal(holder, one.name);
    assert.ok(refusals.length > 0 && refusals.every((text) => /resource '[0-9a-f]{64}' is locked/.test(text)));
    assert.equal(await holderOf(image), two.name);
    let isFollowed = false;
    const watched = next.followRuns(over.signal, undefined, () => {
      isFollowed = true;
    });
    await eventually('its runs are followed', () => isFollowed);
    await two.libvirtd.must('suspend', 'other');
    over.abort();
    const [[last], [first]] = [runs.slice(-1), await watched];
    assert.ok(last !== undefined && first !== undefined && last.to < first.from, JSON.stringify([last, first]));
    await one.logs(/The lease [0-9a-f]+ of this host has ended .*killing 1 owners of 1 locks/);
    await eventually('libvirt knows', async () => (await one.libvirtd.guests()).join() === 'local');
    assert.equal(one.libvirtd.pidOf('local'), bystander);
    assert.throws(() => process.kill(pid, 0));
    // It begins afresh, and is refused what it has lost.
    await one.network.heal();
    await one.logs(/getting another lease[^]*This host has the lease/);
    await two.libvirtd.must('resume', 'other');
    assert.match(await startOther(one, image), /resource busy/);
    await two.libvirtd.migrate('other', one.libvirtd, join(storage ?? '', 'migration'));
    assert.equal(await holderOf(image), one.name);
  });
});
