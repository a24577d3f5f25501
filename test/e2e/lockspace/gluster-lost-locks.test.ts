/** Two hosts on one GlusterFS whose brick is killed and started again: it has forgotten all locks, and who asks first gets them. */
import assert from 'node:assert/strict';
import type { Gluster } from '../../../src/lab/gluster.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGluster } from '../../../src/lab/requirements.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { indirectName } from '../../../src/lab/guest.ts';
import { GlusterHosts } from '../../support/gluster-hosts.ts';
import type { Host } from '../../support/host.ts';
import { skipIf } from '../../support/skip.ts';

const BUSY = 87;
const NAME = indirectName('/images/db.qcow2');
const NOBODY = 4_200_000;

describe('a lock on a GlusterFS that has forgotten it', function () {
  this.timeout(120_000);
  let hosts: GlusterHosts | undefined;
  let gluster: Gluster;
  let one: Host;
  let two: Host;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingGluster());
    hosts = await GlusterHosts.start({
      configurations: ['lock_confirm_interval = 1\n', 'lock_confirm_interval = 0\n'],
    });
    ({ gluster, one, two } = hosts);
  });

  after(async () => hosts?.end());

  async function confirmed(on: Host): Promise<number> {
    return (JSON.parse(await on.lockctl('check', '--json')) as { confirmed: number }).confirmed;
  }

  it('is taken again by its host, or is said to be another’s', async () => {
    const [db, web] = [
      await one.connect('db', NOBODY, gluster.mount),
      await two.connect('web', NOBODY + 1, gluster.mount),
    ];
    await db.must(lock.acquire(gluster.mount, NAME, autocreate));
    await eventually('it is confirmed', async () => (await confirmed(one)) === 1);
    await gluster.restartServer();
    await one.logs(/is lost.*: nobody else is known to have it/);
    await one.logs(/is taken again: in between another host may have written/);
    assert.match(await one.lockctl('check'), /warning: .*it was lost and is held again/);
    assert.equal((await web.ask(lock.acquire(gluster.mount, NAME, autocreate)))?.code, BUSY);

    // The other host is faster, while this one's daemon is stopped.
    one.daemon.process.kill('SIGSTOP');
    await gluster.restartServer();
    await eventually('node8 gets the lock', async () => {
      return (await web.ask(lock.acquire(gluster.mount, NAME, autocreate))) === undefined;
    });
    one.daemon.process.kill('SIGCONT');
    await one.logs(/is lost.*: another process or host has it/);
    assert.match(await one.lockctl('check'), /error: .*another process or host has it/);
    await db.must(lock.release(gluster.mount, NAME));
    assert.equal(await confirmed(two), 1);
    const third = await one.connect('third', NOBODY + 2, gluster.mount);
    assert.equal((await third.ask(lock.acquire(gluster.mount, NAME, autocreate)))?.code, BUSY);
  });
});
