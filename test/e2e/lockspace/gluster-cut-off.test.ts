/**
 * A host whose network is gone, while it and the server of its GlusterFS go on: another host gets its lock once the server has dropped it, and it
 * finds that out when its network is back.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { Gluster } from '../../../src/lab/gluster.ts';
import { indirectName } from '../../../src/lab/guest.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGluster, missingNetwork } from '../../../src/lab/requirements.ts';
import { reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';
import { GlusterHosts } from '../../support/gluster-hosts.ts';
import type { Host } from '../../support/host.ts';
import { skipIf } from '../../support/skip.ts';

const BUSY = 87;
const NAME = indirectName('/images/db.qcow2');
const NOBODY = 4_200_000;
/** Until the server drops a client, and this one has a connection again. */
const PATIENCE_MS = 40_000;

interface Finding {
  readonly severity: string;
  readonly text: string;
}

describe('a host that is cut off from its GlusterFS', function () {
  this.timeout(120_000);
  let hosts: GlusterHosts | undefined;
  let gluster: Gluster;
  let one: Host;
  let two: Host;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingGluster(), missingNetwork());
    hosts = await GlusterHosts.start({
      configurations: ['lock_confirm_interval = 1\n', 'lock_confirm_interval = 1\n'],
      overNetwork: true,
    });
    ({ gluster, one, two } = hosts);
  });

  after(async () => hosts?.end());

  /** Without those about owners, which no process is. */
  async function findings(on: Host): Promise<string[]> {
    const { findings: all } = JSON.parse(await on.lockctl('check', '--json')) as { findings: readonly Finding[] };
    return all.filter(({ text }) => !text.startsWith('its owner')).map(({ severity, text }) => `${severity}: ${text}`);
  }

  it('keeps its lock until the server has dropped it, and says that it is lost when it is back; never that it is free', async () => {
    const [db, third] = [
      await one.connect('db', NOBODY, gluster.mount),
      await one.connect('third', NOBODY + 2, gluster.mount),
    ];
    const web = await two.connect('web', NOBODY + 1, gluster.mount);
    const take = lock.acquire(gluster.mount, NAME, autocreate);
    /** Whatever has become of the lock, this host gives it to nobody, and lists it. */
    const assertHeld = async (asker: Peer = third): Promise<void> => {
      assert.equal((await asker.ask(take))?.code, BUSY);
      const locks = JSON.parse(await one.lockctl('list', '--json')) as { name: string }[];
      assert.deepEqual(
        locks.map(({ name }) => name),
        [NAME],
      );
    };
    await db.must(take);
    await eventually('it is confirmed', async () => (await findings(one)).length === 0);
    assert.equal((await web.ask(take))?.code, BUSY);

    await gluster.setLink(0, 'down');
    const cut = performance.now();
    // The server knows nothing of that yet.
    assert.equal((await web.ask(take))?.code, BUSY);
    await assertHeld();
    await eventually('node8 gets the lock', async () => (await web.ask(take)) === undefined, PATIENCE_MS);
    assert.ok(performance.now() - cut > 1000, 'the server has not waited');
    await assertHeld();
    // It cannot know that, and claims neither that the lock is lost nor that it is held.
    const doubts = await findings(one);
    assert.ok(doubts.length > 0 && doubts.every((text) => text.startsWith('warning: ')), doubts.join('\n'));
    await reexecute(one.daemon);
    await assertHeld();

    await gluster.setLink(0, 'up');
    const logged = /is lost.*: another process or host has it/;
    await eventually('node7 says so', () => logged.test(one.daemon.log), PATIENCE_MS);
    assert.match((await findings(one)).join('\n'), /^error: another process or host has it/m);
    await assertHeld();
    assert.deepEqual(await findings(two), []);
    assert.equal(two.daemon.lab.directory.length > 0 && existsSync(two.daemon.lab.outside(gluster.at(NAME))), true);

    // Its release is no release of the other one's.
    await db.must(lock.release(gluster.mount, NAME));
    assert.deepEqual(await findings(two), []);
    assert.equal((await third.ask(take))?.code, BUSY);
    await web.must(lock.release(gluster.mount, NAME));
    await eventually('it is free for all', async () => (await third.ask(take)) === undefined);
    assert.deepEqual(await findings(one), []);
  });
});
