import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager } from '../../../src/lab/manager.ts';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

const OWNER = { pid: 4_194_305 };
const RIVAL = { pid: 4_194_306 };

describe('a store that has not got all', function () {
  this.timeout(30_000);
  let directory: string;
  let manager: ServiceManager;
  const peers: Peer[] = [];

  const begin = async (limit: number): Promise<number> => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { limit, env: { FDSTORE: '4096' } });
    return (await manager.next('ready')).pid ?? 0;
  };
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.close();
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const client = async (owner: typeof OWNER): Promise<Peer> => {
    const peer = await manager.connect();
    peers.push(peer);
    await peer.must(lock.register(owner));
    return peer;
  };
  const isRefused = async (peer: Peer, name: string): Promise<boolean> =>
    ((await peer.ask(lock.acquire('', join(directory, name), autocreate)))?.message ?? '').includes('is locked');

  it('gets the rest when it has room again, though nothing has come in between', async () => {
    const pid = await begin(6);
    const peer = await client(OWNER);
    for (let index = 0; index < 6; index++) await peer.must(lock.acquire('', join(directory, `f${index}`), autocreate));
    await eventually('the log says it', () => manager.log.includes('the service manager keeps 6, with a limit of 6'));
    // It has been sent again, in vain.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await manager.tell('limit 100');
    await eventually(
      'all is stored',
      async () => (await manager.stored()).filter((name) => name.startsWith('F')).length === 6,
      10_000,
    );
    await manager.kill(pid);
    const rival = await client(RIVAL);
    for (let index = 0; index < 6; index++) assert(await isRefused(rival, `f${index}`), String(index));
  });
});
