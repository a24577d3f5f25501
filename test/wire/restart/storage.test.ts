/** Re-execution while the storage of held files hangs or fails: the daemon sends no request to it, and loses nothing. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { HangingStorage, type StorageOptions } from '../../../src/lab/hanging-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000; // above every pid there can be: its end kills nobody
const { ENOLCK, EIO, ESTALE, ETIMEDOUT } = os.constants.errno;

/** The daemon's own questions, which a helper asks at each start, are not those of a restart. */
const UNASKED = 'lock_confirm_interval = 0\n';

describe('re-execution with locks on another storage', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let storage: HangingStorage;
  let mount: string;
  let holder: Peer;

  async function begin(options?: StorageOptions): Promise<void> {
    daemon = await startDaemon('ours', { configuration: UNASKED });
    storage = await HangingStorage.mountIn(daemon.lab, options);
    ({ mount } = storage);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', `${mount}/disk`));
  }

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  afterEach(async () => {
    await storage.end();
    await daemon.stop();
  });

  const requests = (): string[] => storage.requests.filter((one) => /^(getattr|setlk|getlk|open)$/.test(one));

  async function assertHeld(): Promise<void> {
    assert.equal((await holder.ask(lock.acquire('', `${mount}/disk`)))?.code, 87);
    // Another process, on another host.
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY + 1, name: 'other' }));
    await peer.must(lock.acquire('', `${daemon.lab.directory}/local`, autocreate));
    await peer.must(lock.release('', `${daemon.lab.directory}/local`));
    peer.close();
  }

  for (const hasOwnLocks of [false, true]) {
    it(`asks a storage for nothing, and serves while it does not answer${hasOwnLocks ? ', which has the locks' : ''}`, async () => {
      await begin({ hasOwnLocks });
      const last = hasOwnLocks ? 'setlk' : 'open';
      await eventually('the storage has reported the requests of the acquire', () => requests().includes(last));
      const before = requests();
      await storage.hang('getattr', 'setlk', 'getlk', 'open');
      for (let round = 0; round < 2; round++) {
        await reexecute(daemon);
        await assertHeld();
      }
      assert.deepEqual(requests(), before);
      assert.doesNotMatch(daemon.log, /confirm|lost/);
    });
  }

  it('takes no error of the storage for a loss', async () => {
    await begin({ hasOwnLocks: true });
    for (const errno of [ENOLCK, EIO, ESTALE, ETIMEDOUT]) {
      for (const request of ['getattr', 'setlk', 'getlk'] as const) await storage.fail(request, errno);
      await reexecute(daemon);
      await assertHeld();
    }
    assert.doesNotMatch(daemon.log, /confirm|lost/);
  });

  it('stats no path that leads through a storage, although the file is a local one', async () => {
    daemon = await startDaemon('ours');
    mount = join(daemon.lab.directory, 'storage');
    mkdirSync(mount);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', `${mount}/disk`, autocreate));
    storage = await HangingStorage.mountIn(daemon.lab);
    await storage.hang('lookup');
    // The second waits for the end of the first takeover.
    for (let i = 0; i < 2; i++) await reexecute(daemon);
    await assertHeld();
  });
});
