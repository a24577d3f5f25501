/** Re-execution while the storage of held files hangs or fails: the daemon sends no request to it, and loses nothing. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { type LockDaemon, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { eventually, type Running } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000; // above every pid there can be: its end kills nobody
const { ENOLCK, EIO, ESTALE, ETIMEDOUT } = os.constants.errno;

describe('re-execution with locks on another storage', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let storage: Running;
  let mount: string;
  let holder: Peer;

  async function begin(...options: string[]): Promise<void> {
    daemon = await startDaemon('ours');
    mount = join(daemon.lab.directory, 'storage');
    mkdirSync(mount);
    await mountOver(...options);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', `${mount}/disk`));
  }

  async function mountOver(...options: string[]): Promise<void> {
    const script = join(import.meta.dirname, '../../../src/lab/fuse.py');
    storage = daemon.lab.spawn('/usr/bin/python3', [script, mount, ...options]);
    await eventually('it is mounted', () => {
      if (storage.finished !== undefined) throw new Error(storage.output);
      return storage.output.includes('mounted');
    });
  }

  beforeEach(function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
  });

  afterEach(async () => {
    storage.kill('SIGKILL');
    await storage.exited;
    await daemon.stop();
  });

  /** Has the storage treat requests in another way: see fuse.py. */
  function tell(...words: readonly (string | number)[]): void {
    statSync(daemon.lab.outside(join(mount, words.join(':'))), { throwIfNoEntry: false });
  }

  const requests = (): string[] =>
    storage.output.split('\n').filter((line) => /^(getattr|setlk|getlk|open)$/.test(line));

  async function assertHeld(): Promise<void> {
    assert.equal((await holder.ask(lock.acquire('', `${mount}/disk`)))?.code, 87);
    // Another process, on another host.
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY + 1, name: 'other' }));
    await peer.must(lock.acquire('', `${daemon.lab.directory}/local`, autocreate));
    await peer.must(lock.release('', `${daemon.lab.directory}/local`));
    peer.close();
  }

  for (const options of [[], ['posix-locks']]) {
    it(`asks a storage for nothing, and serves while it does not answer ${options.join()}`, async () => {
      await begin(...options);
      const before = requests();
      for (const request of ['getattr', 'setlk', 'getlk', 'open']) tell('hang', request);
      for (let round = 0; round < 2; round++) {
        await reexecute(daemon);
        await assertHeld();
      }
      assert.deepEqual(requests(), before);
      assert.doesNotMatch(daemon.log, /confirm|lost/);
    });
  }

  it('takes no error of the storage for a loss', async () => {
    await begin('posix-locks');
    for (const errno of [ENOLCK, EIO, ESTALE, ETIMEDOUT]) {
      for (const request of ['getattr', 'setlk', 'getlk']) tell('answer', request, errno);
      await reexecute(daemon);
      await assertHeld();
    }
    assert.doesNotMatch(daemon.log, /confirm|lost/);
  });

  it('looks at no path that leads through a storage, although the file is a local one', async () => {
    daemon = await startDaemon('ours');
    mount = join(daemon.lab.directory, 'storage');
    mkdirSync(mount);
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', `${mount}/disk`, autocreate));
    await mountOver();
    tell('hang', 'lookup');
    // The second waits for the end of the first takeover.
    for (let i = 0; i < 2; i++) await reexecute(daemon);
    await assertHeld();
  });
});
