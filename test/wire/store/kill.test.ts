import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager } from '../../../src/lab/manager.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';

describe('a daemon that is killed under a service manager with a descriptor store', () => {
  let directory: string;
  let manager: ServiceManager;
  let pid: number;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { env: { FDSTORE: '4096' } });
    ({ pid = 0 } = await manager.next('ready'));
  });
  afterEach(async () => {
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('leaves its locks and clients to the next', async () => {
    const peer = await manager.connect();
    await peer.must(lock.register({ pid: 4_194_305 }));
    const name = join(directory, 'one');
    await peer.must(lock.acquire('', name, autocreate));
    const { passed } = await manager.kill(pid);
    assert(passed > 0);
    const rival = await manager.connect();
    await rival.must(lock.register({ pid: 4_194_306 }));
    assert.match((await rival.ask(lock.acquire('', name, autocreate)))?.message ?? '', /is locked/);
    await peer.must(lock.release('', name));
    await rival.must(lock.acquire('', name, autocreate));
    peer.close();
    rival.close();
  });
});
