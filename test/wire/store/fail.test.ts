import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceManager } from '../../../src/lab/manager.ts';
import { eventually, executeAgain } from '../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../src/lab/wire.ts';

const OWNER = { pid: 4_194_305 };
const RIVAL = { pid: 4_194_306 };

describe('a daemon that cannot enlarge its record', function () {
  this.timeout(60_000);
  let directory: string;
  let manager: ServiceManager;
  let pid: number;
  const peers: Peer[] = [];

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
    manager = new ServiceManager(directory, { env: { FDSTORE: '4096' } });
    ({ pid = 0 } = await manager.next('ready'));
  });
  afterEach(async () => {
    for (const peer of peers.splice(0)) peer.close();
    await manager.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const limit = (soft: number): void => {
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
  };
  const at = (name: string): string => join(directory, name);
  const connect = async (count: number): Promise<Peer[]> => {
    const made: Peer[] = [];
    for (let index = 0; index < count; index++) made.push(await manager.connect());
    peers.push(...made);
    return made;
  };
  /** So that memory needs a descriptor, of which there is none. */
  async function registerWithoutDescriptors(count: number): Promise<void> {
    const made = await connect(count);
    for (const peer of made) await peer.ask(lock.release('', 'nothing'));
    const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
    let free = 0;
    while (open.has(free)) free++;
    limit(free);
    for (const peer of made) await peer.must(lock.register({ ...OWNER, name: 'n'.repeat(60_000) }));
    limit(1024);
  }

  it('goes on in the one that it has, while what there is fits', async () => {
    const [peer] = await connect(1);
    await peer?.must(lock.register(OWNER));
    await peer?.must(lock.acquire('', at('one'), autocreate));
    for (const one of await connect(3)) {
      await one.must(lock.register({ ...OWNER, name: 'n'.repeat(60_000) }));
      one.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    await registerWithoutDescriptors(6);
    assert.match(manager.log, /no memory for a larger state record/);
    await new Promise((resolve) => setTimeout(resolve, 400));
    await manager.kill(pid);
    const [rival] = await connect(1);
    await rival?.must(lock.register(RIVAL));
    assert.match((await rival?.ask(lock.acquire('', at('one'), autocreate)))?.message ?? '', /is locked/);
  });

  it('takes all out of the store, and begins another one as the next program, which loses nothing then', async () => {
    const [peer, other] = await connect(2);
    await other?.must(lock.register(RIVAL));
    for (let index = 0; index < 20; index++) await other?.must(lock.acquire('', at(`other${index}`), autocreate));
    await peer?.must(lock.register(OWNER));
    for (let index = 0; index < 20; index++) await peer?.must(lock.acquire('', at(`f${index}`), autocreate));
    await registerWithoutDescriptors(12);
    await eventually('the log says it', () => manager.log.includes('The daemon no longer records its state'));
    for (let index = 0; index < 20; index++) await other?.must(lock.release('', at(`other${index}`)));
    await eventually('nothing is in the store', async () => (await manager.stored()).length === 0);
    await executeAgain(pid);
    await manager.next('ready');
    await eventually('all is in the store', async () => {
      return (await manager.stored()).filter((name) => name.startsWith('F')).length === 20;
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await manager.kill(pid);
    const [rival] = await connect(1);
    await rival?.must(lock.register(RIVAL));
    for (let index = 0; index < 20; index++)
      assert.match((await rival?.ask(lock.acquire('', at(`f${index}`), autocreate)))?.message ?? '', /is locked/);
    assert(!/had been lost|stays held|Cannot reach/.test(manager.log));
  });
});
