import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { recordFile, ServiceManager } from '../../../src/lab/manager.ts';
import { executeAgain } from '../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

const OWNER = { pid: 4_194_305 };

describe('the rounds of the poller that are on record', function () {
  this.timeout(60_000);
  let directory: string;
  let manager: ServiceManager;
  const peers: Peer[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { env: { FDSTORE: '4096' } });
  });
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.close();
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Of the holds that the daemon has, in the order in which they came. */
  function rounds(pid: number): number[] {
    const text = readFileSync(recordFile(pid)).toString('latin1');
    return Array.from(text.matchAll(/"round":(\d+)/g), ([, round]) => Number(round));
  }

  // Else a lock that was granted in a round long ago is taken back for a call of the same number that a death interrupts.
  it('are not those of a later program, after a death or a restart', async () => {
    let { pid = 0 } = await manager.next('ready');
    const acquire = async (name: string): Promise<void> => {
      const peer = await manager.connect();
      peers.push(peer);
      await peer.must(lock.register(OWNER));
      await peer.must(lock.acquire('', join(directory, name), autocreate));
    };
    for (let count = 0; count < 20; count++) await acquire(`first${count}`);
    const busy = await manager.connect();
    peers.push(busy);
    await busy.must(lock.register({ pid: 4_194_306 }));
    ({ pid } = await manager.kill(pid));
    await acquire('second');
    await executeAgain(pid);
    await manager.next('ready');
    await acquire('third');
    const found = rounds(pid);
    assert.equal(found.length, 22);
    assert.deepEqual(
      found,
      [...new Set(found)].sort((one, other) => one - other),
    );
  });
});
