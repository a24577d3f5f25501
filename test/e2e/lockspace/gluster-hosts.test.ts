/** Two hosts, each with a mount of one GlusterFS of its own: the one that is refused can say which host holds the lock. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Gluster } from '../../../src/lab/gluster.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGluster } from '../../../src/lab/requirements.ts';
import { reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { indirectName } from '../../../src/lab/guest.ts';
import { GlusterHosts } from '../../support/gluster-hosts.ts';
import type { Host } from '../../support/host.ts';
import { skipIf } from '../../support/skip.ts';

const BUSY = 87;
const DISK = '/images/db.qcow2';
const NAME = indirectName(DISK);
/** Above every pid there can be: its end kills nobody. */
const NOBODY = 4_200_000;

describe('two hosts on one GlusterFS', function () {
  this.timeout(60_000);
  let hosts: GlusterHosts | undefined;
  let gluster: Gluster;
  let one: Host;
  let two: Host;
  let db: Peer;
  let web: Peer;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingGluster());
    hosts = await GlusterHosts.start();
    ({ gluster, one, two } = hosts);
    db = await one.connect('db', NOBODY, gluster.mount);
    web = await two.connect('web', NOBODY + 1, gluster.mount);
  });

  after(async () => hosts?.end());

  it('know each other’s guests by name and host, through restarts and back', async () => {
    for (const [holder, asker, host, vm] of [
      [db, web, two, 'db \\(pid 4200000\\) on host node7'],
      [web, db, one, 'web \\(pid 4200001\\) on host node8'],
    ] as const) {
      await holder.must(lock.acquire(gluster.mount, NAME, autocreate));
      assert.equal((await asker.ask(lock.acquire(gluster.mount, NAME, autocreate)))?.code, BUSY);
      const named = vm.replace(/^(\w+)/, 'VM "$1"');
      await host.logs(new RegExp(`held by ${named}, since`));
      for (const words of [['refusals'], ['who', DISK], ['why', DISK], ['who', gluster.at(NAME)]])
        assert.match(await host.lockctl(...words), new RegExp(vm), words.join(' '));
      await reexecute(one.daemon);
      await reexecute(two.daemon);
      assert.match(await host.lockctl('who', DISK), new RegExp(vm));
      await holder.must(lock.release(gluster.mount, NAME));
    }
    assert.match(await two.lockctl('who', DISK), /No known lock|No lock/);
  });

  it('see both who share', async () => {
    for (const peer of [db, web]) await peer.must(lock.acquire(gluster.mount, NAME, autocreate | shared));
    const writer = await two.connect('writer', NOBODY + 2, gluster.mount);
    assert.equal((await writer.ask(lock.acquire(gluster.mount, NAME, autocreate)))?.code, BUSY);
    await web.must(lock.release(gluster.mount, NAME));
    assert.equal((await writer.ask(lock.acquire(gluster.mount, NAME, autocreate)))?.code, BUSY);
    await two.logs(/VM "writer" .*: held by VM "db" \(pid 4200000\) on host node7, since/);
    await db.must(lock.release(gluster.mount, NAME));
    await writer.must(lock.acquire(gluster.mount, NAME, autocreate));
  });

  it('are not named any more when they are cut off, and the other gets the lock', async () => {
    const name = indirectName('/images/other.qcow2');
    await db.must(lock.acquire(gluster.mount, name, autocreate));
    assert.match(await two.lockctl('who', gluster.at(name)), /on host node7/);
    await gluster.cutOff(0);
    await eventually('node8 gets the lock', async () => {
      return (await web.ask(lock.acquire(gluster.mount, name, autocreate))) === undefined;
    });
    const text = readFileSync(two.daemon.lab.outside(gluster.at(name)), 'latin1');
    assert.match(text, /host=node8\n/);
    assert.doesNotMatch(text, /node7/);
  });
});
