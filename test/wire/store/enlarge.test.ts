import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { recordFile, ServiceManager } from '../../../src/lab/manager.ts';
import { encode, lock, type Peer } from '../../../src/lab/wire.ts';
import { MIN_HALF } from '../../../src/store/record.ts';

/** Where the record tells how far it is filled. */
const END_OFFSET = 16 * 4;

describe('a record that is full when the daemon dies', function () {
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

  /** Bytes that are left. */
  function room(pid: number): number {
    const fd = openSync(recordFile(pid), 'r');
    const word = Buffer.alloc(4);
    readSync(fd, word, 0, 4, END_OFFSET);
    closeSync(fd);
    return MIN_HALF - (word.readUInt32LE() & 0x7fff_ffff);
  }

  it('is followed by a larger one, which knows the connections of the next process', async () => {
    let { pid = 0 } = await manager.next('ready');
    const register = async (length: number): Promise<Peer> => {
      const peer = await manager.connect();
      peers.push(peer);
      await peer.must(lock.register({ pid: 4_194_305, name: 'n'.repeat(length) }));
      return peer;
    };
    await register(1000);
    while (room(pid) > 100_000) await register(60_000);
    await new Promise((resolve) => setTimeout(resolve, 600));
    while (room(pid) > 61_000) await register(Math.min(30_000, room(pid) - 61_000));
    const before = room(pid);
    await register(1000);
    const overhead = before - room(pid) - 1000;
    await register(room(pid) - overhead - 80);
    assert(room(pid) < 200, `${room(pid)} bytes are left`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    ({ pid } = await manager.kill(pid));
    const interrupted = peers[1];
    interrupted?.send(encode({ procedure: 1 }).subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 50));
    ({ pid } = await manager.kill(pid));
    for (const [index, peer] of peers.entries()) {
      if (peer === interrupted) assert.equal((await peer.drain()).length, 0);
      else assert.match((await peer.ask(lock.release('', '/nothing')))?.message ?? '', /not locked/, String(index));
    }
  });
});
