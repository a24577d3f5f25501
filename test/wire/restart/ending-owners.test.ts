/** While an owner may write, no other gets its disk: not by waiting, not by a restart, not at the daemon's end. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000;

describe('owners that are being ended', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let disk: string;
  let guest: Actor;

  before(function () {
    skipIf(this, missingDaemon('ours'));
  });

  beforeEach(async () => {
    daemon = await startDaemon('ours');
    disk = `${daemon.lab.directory}/disk`;
    guest = Actor.start();
    await guest.ignoreTerm();
    await guest.open('own', daemon.socket);
    await guest.send('own', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
    await guest.send('own', encode({ ...lock.acquire('', disk, autocreate), serial: 2 }));
    await eventually('the lock is there', () => lockOn(daemon.pid, disk) !== undefined);
  });

  afterEach(async () => {
    await guest.stop();
    await daemon.stop();
    await daemon.lab.close();
  });

  async function connect(pid: number): Promise<Peer> {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid }));
    return peer;
  }

  it('keep their locks until they are gone; who asks for them waits alone, also over a restart', async () => {
    const [rival, other] = [await connect(NOBODY), await connect(NOBODY + 1)];
    await guest.close('own');
    let goneAtGrant: boolean | undefined;
    const granted = rival.ask(lock.acquire('', disk, autocreate)).then((reply) => {
      goneAtGrant = guest.gone;
      return reply;
    });
    await other.must(lock.acquire('', `${disk}-of-another`, autocreate));
    await reexecute(daemon);
    await other.must(lock.release('', `${disk}-of-another`));
    assert.equal(guest.gone, false);
    assert.equal(goneAtGrant, undefined, 'the rival waits');
    assert.notEqual(lockOn(daemon.pid, disk), undefined);
    assert.equal((await granted)?.code, undefined);
    await guest.ended;
    assert.equal(await guest.ended, 'SIGKILL');
    await rival.must(lock.release('', disk));
  });

  it('are forgotten by who asks and hangs up', async () => {
    const rival = await connect(NOBODY);
    await guest.close('own');
    const answer = rival.ask(lock.acquire('', disk, autocreate)).catch(() => undefined);
    rival.close();
    await answer;
    assert.equal(await guest.ended, 'SIGKILL');
    await eventually('the lock is released, and nobody has it', () => !existsSync(disk));
  });

  it('are ended when the daemon ends, also without a connection of their own', async () => {
    const libvirtd = await connect(guest.pid);
    await libvirtd.must(lock.acquire('', `${disk}-2`, autocreate));
    // Its own connection registers another owner before the end, so no connected client owns the locks.
    await guest.send('own', encode({ ...lock.register({ pid: NOBODY }), serial: 3 }));
    await guest.close('own');
    libvirtd.close();
    assert.equal(guest.gone, false);
    const { code } = await daemon.stop();
    assert.equal(code, 0);
    assert.equal(guest.gone, true, 'it was ended before the daemon was');
    assert.equal(await guest.ended, 'SIGKILL');
    assert.ok(!existsSync(disk));
  });
});
