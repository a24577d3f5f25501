import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../src/lab/requirements.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { Program, PROOF, PROOF_WITHOUT_HELPERS, PROOF_WITHOUT_KINDS } from '../../support/release.ts';
import { skipIf } from '../../support/skip.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a daemon that is told to end while it executes another program', function () {
  this.timeout(30_000);
  let scene: StoreScene;
  let program: Program;

  beforeEach(() => {
    program = new Program();
  });

  afterEach(async () => {
    await scene.end();
    program.remove();
  });

  /** Whether the manager takes messages when the end comes. */
  for (const takes of [true, false]) {
    it(`keeps all for the next one, with the store half emptied${takes ? '' : ', and a manager that takes nothing'}`, async () => {
      scene = await StoreScene.begin({ program: program.path });
      const peer = await scene.client(OWNER);
      for (let index = 0; index < 10; index++) await peer.must(lock.acquire('', scene.at(`f${index}`), autocreate));
      await peer.must(lock.acquire('', scene.at('both'), shared | autocreate));
      await eventually('all is stored', async () => (await scene.storedFiles()).length === 11);
      const count = (await scene.manager.stored()).length;
      // Its locks must be of another kind, and the store empty.
      program.replace(PROOF_WITHOUT_KINDS);
      await scene.manager.tell('listen no');
      process.kill(scene.pid, 'SIGUSR1');
      await eventually('the locks are changed', () => scene.kindOf('f9') === 'POSIX');
      if (takes) await scene.manager.tell('listen yes');
      process.kill(scene.pid, 'SIGTERM');
      if (!takes) {
        await eventually('the locks are changed back', () => scene.kindOf('f9') === 'OFDLCK', 10_000);
        await scene.manager.tell('listen yes');
      }
      await scene.manager.next('ended');
      await scene.served();
      const rival = await scene.client(RIVAL);
      for (let index = 0; index < 10; index++) assert(await scene.isRefused(rival, `f${index}`));
      assert(await scene.isRefused(rival, 'both'));
      await peer.must(lock.release('', scene.at('f0')));
      assert.equal((await scene.manager.stored()).length, count + 1);
    });
  }

  for (const isSlow of [false, true]) {
    it(`gives locks on other storage back to their helpers, which keep them for the next one${isSlow ? ', though it does not answer at once' : ''}`, async function () {
      skipIf(this, missingDaemon('ours'), missingFuse());
      const [proofs, end] = [program.at('proofs'), program.at('end')];
      scene = await StoreScene.begin({ program: program.path });
      const storage = await scene.mount('storage');
      const peer = await scene.client(OWNER);
      const lease = lock.acquire('', join(storage.mount, 'lease'), autocreate);
      await peer.must(lease);
      // At its second proof the daemon has taken over the helpers' files.
      const wait = `[ "$(wc -l <${proofs})" = 1 ] || while ! [ -e ${end} ]; do sleep 0.05; done`;
      program.replace(`echo >>${proofs}; ${wait}; ${PROOF_WITHOUT_HELPERS}`);
      process.kill(scene.pid, 'SIGUSR1');
      await eventually('the program is proved again', () => existsSync(proofs) && readFileSync(proofs).length === 2);
      if (isSlow) await storage.hang('open');
      const other = await scene.client(OWNER);
      const asked = other.ask(lock.acquire('', join(storage.mount, 'disk'))).catch(() => undefined);
      if (isSlow) await storage.asked('open');
      process.kill(scene.pid, 'SIGTERM');
      await scene.rest();
      writeFileSync(end, '');
      // Longer than an attempt waits for it, which begins now.
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, 3000));
      await storage.letGo();
      await asked;
      await scene.manager.next('ended');
      await scene.served();
      const rival = await scene.client(RIVAL);
      assert.match((await rival.ask(lease))?.message ?? '', /is locked/);
      await peer.must(lock.release('', join(storage.mount, 'lease')));
      await rival.must(lease);
      assert.doesNotMatch(scene.manager.log, / lost|cannot be confirmed/);
    });
  }

  it('has given them back after a refusal, too, and dies', async function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
    const proofs = program.at('proofs');
    scene = await StoreScene.begin({ program: program.path });
    const storage = await scene.mount('storage');
    const peer = await scene.client(OWNER);
    const lease = lock.acquire('', join(storage.mount, 'lease'), autocreate);
    await peer.must(lease);
    // Its second proof fails.
    program.replace(`echo >>${proofs}; [ "$(wc -l <${proofs})" = 1 ] || exit 1; ${PROOF_WITHOUT_HELPERS}`);
    process.kill(scene.pid, 'SIGUSR1');
    await eventually('it is refused', () => scene.manager.log.includes('Unable to re-execute'));
    await eventually('the helper has its file back', () => !scene.openFiles().includes(join(storage.mount, 'lease')));
    await scene.kill();
    assert.match((await (await scene.client(RIVAL)).ask(lease))?.message ?? '', /is locked/);
    await peer.must(lock.release('', join(storage.mount, 'lease')));
    assert.doesNotMatch(scene.manager.log, /cannot be confirmed/);
  });
});

describe('a daemon with a watchdog that is told twice to execute its program', function () {
  this.timeout(30_000);

  it('is not watched when it does: another program might feed no watchdog, and be killed with its locks', async () => {
    const program = new Program();
    const [begun, end] = [program.at('begun'), program.at('end')];
    const scene = await StoreScene.begin({
      program: program.path,
      env: { FDSTORE: '4096', WATCHDOG_USEC: '30000000' },
    });
    try {
      await eventually('it is watched', async () => (await scene.manager.watchdog()) === '30000000');
      // The proof of the next program takes its time.
      program.replace(`: >${begun}; while ! [ -e ${end} ]; do sleep 0.05; done; ${PROOF}`);
      process.kill(scene.pid, 'SIGUSR1');
      await eventually('the next program is being proved', () => existsSync(begun));
      assert.equal(await scene.manager.watchdog(), '0');
      process.kill(scene.pid, 'SIGUSR1');
      // The signal has been handled before these calls.
      await scene.rest();
      await scene.rest();
      assert.equal(await scene.manager.watchdog(), '0');
      writeFileSync(end, '');
      await scene.served();
      await eventually('the next program is watched', async () => (await scene.manager.watchdog()) === '30000000');
    } finally {
      await scene.end();
      program.remove();
    }
  });
});
