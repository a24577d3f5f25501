/**
 * Two hosts on a real GlusterFS, each with its libvirtd, QEMU and lock daemon: a guest is refused with the other host's name, migrates
 * there and back, and its disk is another's only when its host is gone. test/campaigns/hosts has everything that happens to disks.
 */
import assert from 'node:assert/strict';
import { indirectName } from '../../../src/lab/guest.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGluster, missingGuests } from '../../../src/lab/requirements.ts';
import { reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import {
  type ClusterHost,
  faultsOf,
  followed,
  type Kind,
  type Place,
  TwoHosts,
  withoutImageLocks,
} from '../../support/two-hosts.ts';

const BUSY = 87;
const C = '9.0.0';

/** How often a migration is made to fail until libvirt leaves the guest without its lock. */
const MOST_ATTEMPTS = 8;

describe('guests on two hosts with one GlusterFS', function () {
  this.timeout(120_000);
  let hosts: TwoHosts | undefined;
  /** Each with its own image: a client's cache of names may be a second behind. */
  let count = 0;

  const pair = (): TwoHosts => {
    assert.ok(hosts !== undefined);
    return hosts;
  };

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon(C), missingGuests(), missingGluster());
    hosts = await TwoHosts.open();
  });

  after(async () => {
    await hosts?.close();
  });

  /** Starts the daemons, and a guest on one of the hosts. Returns its image. */
  async function begin(kinds: readonly [Kind, Kind], place: Place, on: ClusterHost): Promise<string> {
    await pair().start(kinds, place);
    const image = pair().image(`db${++count}.img`);
    await on.libvirtd.run(followed({ name: 'db', disks: [{ image }] }));
    assert.equal(pair().lockOn(pair().lockFileOf(image)), `${on.name} WRITE`);
    return image;
  }

  /** Another guest with that disk. Returns libvirt's message; empty when it starts. */
  async function startOther({ libvirtd }: ClusterHost, image: string): Promise<string> {
    const { code, stderr } = await libvirtd.create(withoutImageLocks({ name: 'other', disks: [{ image }] }));
    return code === 0 ? '' : stderr;
  }

  async function destroyAll(): Promise<void> {
    for (const { libvirtd } of pair().hosts)
      for (const guest of await libvirtd.guests()) await libvirtd.must('destroy', guest);
  }

  afterEach(async () => {
    if (hosts !== undefined) await destroyAll();
  });

  /** Migrates db there and back, with a restart of this project's daemons in between. */
  async function migrateThereAndBack(
    kinds: readonly [Kind, Kind],
    image: string,
    from: ClusterHost,
    to: ClusterHost,
  ): Promise<void> {
    const file = pair().lockFileOf(image);
    const watched = await pair().watch('db', image, async () => {
      for (const [source, destination] of [
        [from, to],
        [to, from],
      ] as const) {
        const { code, stderr } = await pair().migrate('db', source, destination);
        assert.equal(code, 0, stderr);
        assert.equal(pair().lockOn(file), `${destination.name} WRITE`);
        // C may leave calls unanswered.
        for (const [index, { daemon }] of pair().hosts.entries()) if (kinds[index] === 'ours') await reexecute(daemon);
        assert.equal(pair().lockOn(file), `${destination.name} WRITE`);
      }
    });
    assert.deepEqual(faultsOf(watched), []);
    assert.deepEqual([...new Set(watched.runs.map(({ host }) => host))].sort(), ['node7', 'node8']);
    const holders = watched.locks.flatMap(({ host }) => host ?? []);
    assert.deepEqual([...new Set(holders)].sort(), ['node7', 'node8']);
  }

  it('are refused with the name of the other host, and migrate there and back', async () => {
    const { node7, node8 } = pair();
    const image = await begin(['ours', 'ours'], 'indirect', node7);
    const refused = async (asker: ClusterHost, holder: ClusterHost): Promise<void> => {
      assert.match(await startOther(asker, image), /resource busy: Lockspace resource '[0-9a-f]{64}' is locked/);
      const named = new RegExp(`db \\(pid \\d+\\) on host ${holder.name}, since`);
      await asker.logs(
        new RegExp(`to VM "other" \\(pid \\d+\\): held by VM "db" \\(pid \\d+\\) on host ${holder.name}`),
      );
      for (const words of [['refusals'], ['why', image]])
        assert.match(await asker.lockctl(...words), named, words.join(' '));
    };
    await refused(node8, node7);
    await migrateThereAndBack(['ours', 'ours'], image, node7, node8);
    const { code, stderr } = await pair().migrate('db', node7, node8);
    assert.equal(code, 0, stderr);
    await refused(node7, node8);
  });

  for (const kinds of [
    ['ours', C],
    [C, 'ours'],
  ] as const)
    for (const place of ['direct', 'indirect'] as const)
      it(`migrate to and from a C daemon, which refuses and is refused: ${kinds.join(' and ')}, ${place}`, async () => {
        const [one, two] = pair().hosts;
        const image = await begin(kinds, place, one);
        assert.match(await startOther(two, image), /resource busy: Lockspace resource '\S+' is locked/);
        if (kinds[1] === 'ours')
          assert.match(await two.lockctl('why', image), /another host|a process with an OFD lock/);
        await migrateThereAndBack(kinds, image, one, two);
        await one.libvirtd.must('destroy', 'db');
        await eventually('the lock is free', () => pair().lockOn(pair().lockFileOf(image)) === undefined);
        assert.equal(await startOther(two, image), '');
      });

  it('share a lock file with a C daemon, whoever comes and goes first', async () => {
    await pair().start(['ours', C], 'indirect');
    const { node7, node8, lockspace = '' } = pair();
    const [ours, theirs] = [await node7.rival(lockspace), await node8.rival(lockspace)];
    const [writer, other] = [await node7.rival(lockspace), await node8.rival(lockspace)];
    for (const [index, [first, second, asker]] of (
      [
        [ours, theirs, other],
        [theirs, ours, writer],
      ] as const
    ).entries()) {
      const name = indirectName(`/images/shared${index}`);
      await first.must(lock.acquire(lockspace, name, autocreate | shared));
      await second.must(lock.acquire(lockspace, name, autocreate | shared));
      await first.must(lock.release(lockspace, name));
      assert.equal((await asker.ask(lock.acquire(lockspace, name, autocreate)))?.code, BUSY);
      await second.must(lock.release(lockspace, name));
      await asker.must(lock.acquire(lockspace, name, autocreate));
      assert.equal(pair().lockOn(`${lockspace}/${name}`), `${index === 0 ? 'node8' : 'node7'} WRITE`);
      await asker.must(lock.release(lockspace, name));
      assert.equal(pair().lockOn(`${lockspace}/${name}`), undefined);
    }
    for (const peer of [ours, theirs, writer, other]) peer.close();
  });

  it('are found by health when libvirt lets one run without its lock, after QEMU has resumed it by itself', async () => {
    const { node7, node8 } = pair();
    const image = await begin(['ours', 'ours'], 'indirect', node7);
    const source = node7.daemon.pid;
    const isLocked = (): boolean => pair().lockOn(pair().lockFileOf(image)) !== undefined;
    // Now and then libvirt notices in time, and takes the lock again.
    for (let attempts = 0; isLocked() && attempts < MOST_ATTEMPTS; attempts++) {
      const over = new AbortController();
      const monitor = await node7.monitor('db');
      // Its destination dies when the source has stopped: the release of the lock waits until then.
      const followedRuns = monitor.followRuns(over.signal, (event) => {
        if (event === 'MIGRATION active') process.kill(source, 'SIGSTOP');
        if (event !== 'STOP') return;
        process.kill(node8.libvirtd.pidOf('db'), 'SIGKILL');
        process.kill(source, 'SIGCONT');
      });
      assert.notEqual((await pair().migrate('db', node7, node8)).code, 0);
      over.abort();
      await followedRuns;
      assert.equal(await node7.stateOf('db'), 'running');
    }
    assert.ok(!isLocked());
    assert.match(await node7.lockctl('health'), /guest db \(pid \d+\) runs without a lock on/);
    // The way out that it names.
    for (const verb of ['suspend', 'resume']) await node7.libvirtd.must(verb, 'db');
    assert.equal(pair().lockOn(pair().lockFileOf(image)), 'node7 WRITE');
    assert.match(await node7.lockctl('health'), /^OK: /);
  });
});

describe('a host that is gone from a GlusterFS', function () {
  this.timeout(120_000);

  for (const place of ['indirect', 'direct'] as const)
    it(`keeps its guest’s disk until the server has dropped it, and no longer: ${place}`, async function () {
      skipIf(this, missingDaemon('ours'), missingGuests(), missingGluster());
      const hosts = await TwoHosts.open();
      try {
        await hosts.start(['ours', 'ours'], place);
        const { node7, node8, gluster } = hosts;
        const image = hosts.image('db.img');
        const file = hosts.lockFileOf(image);
        await node7.libvirtd.run({ name: 'db', disks: [{ image }] });
        const start = async (): Promise<number | null> =>
          (await node8.libvirtd.create(withoutImageLocks({ name: 'db', disks: [{ image }] }))).code;
        const rival = await node8.rival(hosts.lockspace);
        const ask = async (): Promise<number | undefined> => (await rival.ask(hosts.acquire(image)))?.code;
        // It hangs, and stays connected.
        gluster.freeze(0);
        assert.equal(await start(), 1);
        assert.equal(await ask(), BUSY);
        assert.equal(hosts.lockOn(file), 'node7 WRITE');
        // It is dead, and the server does not know yet.
        await gluster.hang();
        await gluster.cutOff(0);
        let answer: number | undefined;
        let isAnswered = false;
        const asked = ask().then((code) => {
          answer = code;
          isAnswered = true;
        });
        await eventually('the call waits for the storage', async () => {
          const status = JSON.parse(await node8.lockctl('status', '--json')) as { storages: { callCount: number }[] };
          return status.storages.some(({ callCount }) => callCount > 0);
        });
        assert.equal(isAnswered, false);
        gluster.letGo();
        await asked;
        // The server may answer before it hears of the end.
        if (answer !== undefined) {
          assert.equal(answer, BUSY);
          await eventually('the disk is free', async () => (await ask()) === undefined);
        }
        assert.equal(hosts.lockOn(file), 'node8 WRITE');
        await rival.must(hosts.release(image));
        rival.close();
        assert.equal(await start(), 0);
        assert.equal(hosts.lockOn(file), 'node8 WRITE');
      } finally {
        await hosts.close();
      }
    });

  it('is looked at without a stack trace when the server is gone', async function () {
    skipIf(this, missingDaemon('ours'), missingGuests(), missingGluster());
    const hosts = await TwoHosts.open();
    try {
      await hosts.start(['ours', 'ours'], 'indirect');
      const owner = await hosts.node7.rival(hosts.lockspace);
      await owner.must(hosts.acquire(hosts.image('db.img')));
      await hosts.gluster.stopServer();
      // EBADFD, for which Node.js has no name.
      assert.match(await hosts.node7.lockctl('check'), /1 lock/);
      owner.close();
    } finally {
      await hosts.close();
    }
  });
});
