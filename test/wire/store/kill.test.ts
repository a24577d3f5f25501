import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inquireProgram } from '../../../xdr/programs/inquire.ts';
import { Client } from '../../../src/client/client.ts';
import { Killer } from '../../../src/lab/killer.ts';
import { executeAgain, eventually } from '../../../src/lab/process.ts';
import { autocreate, encode, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { installRoot } from '../../../src/posix/root.ts';
import { Program, PROOF_WITHOUT_KINDS } from '../../support/release.ts';
import { OWNER, RIVAL, StoreScene } from './scene.ts';

describe('a daemon that is killed under a service manager with a descriptor store', function () {
  this.timeout(60_000);
  let scene: StoreScene;

  afterEach(async () => {
    await scene.end();
  });

  it('leaves its locks and clients to the next one, several times', async () => {
    scene = await StoreScene.begin();
    const [peer, other] = [await scene.client(OWNER), await scene.client(OWNER)];
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    for (const each of [peer, other]) await each.must(lock.acquire('', scene.at('two'), shared | autocreate));
    await peer.must(lock.newLockspace(scene.at('space')));
    await other.must(lock.restrict());
    const before = await scene.manager.stored();
    for (let turn = 0; turn < 3; turn++) {
      await scene.kill();
      const rival = await scene.client(RIVAL);
      assert(await scene.isRefused(rival, 'one'));
      assert(await scene.isRefused(rival, 'two'));
      assert.match((await other.ask(lock.release('', scene.at('two'))))?.message ?? '', /restricted/);
      assert.match((await peer.ask(lock.newLockspace(scene.at('space'))))?.message ?? '', /already exists/);
      rival.close();
    }
    await eventually('the store has what it had', async () => (await scene.manager.stored()).length === before.length);
    assert.equal(scene.kindOf('one'), 'OFDLCK');
    await peer.must(lock.release('', scene.at('one')));
    const rival = await scene.client(RIVAL);
    await rival.must(lock.acquire('', scene.at('one'), autocreate));
    await rival.must(lock.release('', scene.at('one')));
    assert.throws(() => statSync(scene.at('one')), /ENOENT/);
    assert.match(scene.manager.log, /, died, after 2 others: taking over 2 locks/);
    // Each of these connections is stored, too, which must not put off the question to the manager.
    const gap = await eventually('the gap is known', async () => {
      const { lastDeath } = JSON.parse(await scene.lockctl('status', '--json')) as {
        lastDeath: { gap: number | null };
      };
      return lastDeath.gap ?? undefined;
    });
    assert.ok(scene.manager.log.includes(`No client was served for ${gap} ms after the former daemon's end`));
    // It stays known.
    await executeAgain(scene.pid);
    const last = `the last at \\S+Z: it .*, and no client was served for ${gap} ms; `;
    assert.match(await scene.lockctl('status'), new RegExp(`^deaths +3 so far, ${last}`, 'm'));
    assert.match(await scene.lockctl('health'), new RegExp(`^ +3 deaths of the daemon, ${last}the next one took`, 'm'));
  });

  it('takes over 900 clients and as many locks', async () => {
    scene = await StoreScene.begin();
    const all: Peer[] = [];
    for (let index = 0; index < 900; index++) {
      const peer = await scene.client({ pid: 4_200_000 + index });
      await peer.must(lock.acquire('', scene.at(`f${index}`), autocreate));
      all.push(peer);
    }
    await eventually('all is stored', async () => (await scene.stored('C')) === 900);
    await scene.kill();
    await Promise.all(all.map(async (peer, index) => peer.must(lock.release('', scene.at(`f${index}`)))));
  });

  it('closes a connection with a call under way, and ends no owner for it', async () => {
    scene = await StoreScene.begin();
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('half'), autocreate));
    const peer = await scene.client();
    // The daemon has read half of a message, and has not answered.
    peer.send(encode({ procedure: 1 }).subarray(0, 10));
    const idle = await scene.client(RIVAL);
    await scene.kill();
    assert.equal((await peer.drain()).length, 0);
    assert(await scene.isRefused(idle, 'half'));
    assert(owner.isAlive);
    owner.kill();
    await eventually('the lock is free', async () => !(await scene.isRefused(idle, 'half')));
  });

  it('goes on with a connection whose call it has not read, though it was reported as readable', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await scene.rest();
    // Reads nothing, and dies when it waits for the next event: between a mark and the read it would count as having read.
    const killer = await Killer.at(scene.pid, { recvmsg: 'error=EAGAIN', epoll_wait: 'signal=KILL:when=5' });
    const reply = peer.ask(lock.release('', scene.at('nothing')));
    await killer.struck();
    await scene.served();
    await killer.letGo();
    assert.match((await reply)?.message ?? '', /not locked/);
  });

  it('notices at once that an owner ended while no daemon served', async () => {
    scene = await StoreScene.begin();
    const owner = await scene.owner();
    await owner.call(lock.acquire('', scene.at('mine'), autocreate));
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'mine'));
    await scene.rest();
    await scene.manager.tell('restart no');
    process.kill(scene.pid, 'SIGKILL');
    await scene.manager.next('ended');
    owner.kill();
    await owner.ended();
    await scene.manager.tell('restart yes');
    await scene.served(20_000);
    await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'mine')), 2000);
  });

  it('goes on to end an owner whose end had begun', async () => {
    scene = await StoreScene.begin();
    // The owner closes its connection, and ignores SIGTERM.
    const owner = await scene.owner(true);
    await owner.call(lock.acquire('', scene.at('stubborn'), autocreate));
    const rival = await scene.client(RIVAL);
    await owner.close();
    await eventually('its end has begun', async () =>
      (await scene.manager.stored()).some((name) => name.startsWith('P')),
    );
    await scene.kill();
    assert(owner.isAlive);
    assert.equal(await owner.ended(), 'SIGKILL');
    await eventually('the lock is free', async () => !(await scene.isRefused(rival, 'stubborn')));
  });

  it('leaves its state also after it has executed itself again', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    const before = await scene.manager.stored();
    await executeAgain(scene.pid);
    await scene.manager.next('ready');
    await peer.must(lock.acquire('', scene.at('two'), autocreate));
    await scene.kill();
    const rival = await scene.client(RIVAL);
    for (const name of ['one', 'two']) {
      assert(await scene.isRefused(rival, name));
      await peer.must(lock.release('', scene.at(name)));
    }
    peer.close();
    rival.close();
    await eventually(
      'nothing more is stored than before',
      async () => (await scene.manager.stored()).length < before.length,
    );
    await executeAgain(scene.pid);
    await scene.manager.next('ready');
    await (await scene.client(RIVAL)).must(lock.acquire('', scene.at('one'), autocreate));
  });

  it('with a damaged record leaves nothing to the next one, which logs so and starts without state', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    // In the first entry of either half.
    await scene.manager.tell(`damage R ${256 + 4 * 32_768 * 4 + 20} 3`);
    await scene.manager.tell(`damage R ${256 + 4 * 32_768 * 4 + 512 * 1024 + 20} 3`);
    await scene.kill();
    assert.match(scene.manager.log, /The state record cannot be used, and all locks are lost: its entry at byte 0/);
    const rival = await scene.client(RIVAL);
    await rival.must(lock.acquire('', scene.at('one'), autocreate));
    await eventually('what it had is gone from the store', async () => {
      return (await scene.stored('Q')) === 1 && (await scene.storedFiles()).length === 1;
    });
    assert.equal((await peer.drain()).length, 0);
  });

  it('serves while the manager does not read, and stores all descriptors when it does again', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await scene.manager.tell('listen no');
    const others: Peer[] = [];
    for (let index = 0; index < 600; index++) others.push(await scene.client(OWNER));
    for (let index = 0; index < 600; index++) await peer.must(lock.acquire('', scene.at(`f${index}`), autocreate));
    await scene.manager.tell('listen yes');
    await eventually('all is stored', async () => (await scene.stored('C')) === 601);
    await scene.kill();
    const rival = await scene.client(RIVAL);
    assert(await scene.isRefused(rival, 'f0'));
    assert(await scene.isRefused(rival, 'f599'));
    await others.at(-1)?.must(lock.release('', scene.at('f0')));
  });

  it('logs that the store is full, and stores again the descriptors that the manager lost', async () => {
    scene = await StoreScene.begin({ limit: 6 });
    for (let index = 0; index < 5; index++) await scene.client(OWNER);
    const peer = await scene.client(OWNER);
    await eventually('the log says it', () =>
      scene.manager.log.includes('the service manager keeps 6, with a limit of 6'),
    );
    await peer.must(lock.acquire('', scene.at('lease'), autocreate));
    assert.equal(scene.kindOf('lease'), 'OFDLCK');
    await scene.manager.tell('limit 100');
    await scene.client(OWNER);
    await eventually('all is stored', async () => (await scene.stored('C')) === 7, 20_000);
  });

  it('leaves locks to the next one that were granted before it knew whether there is a store', async () => {
    scene = await StoreScene.begin({ env: {}, delay: 60 });
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('early'), autocreate));
    assert.equal((await scene.storedFiles()).length, 1);
    assert.equal(scene.kindOf('early'), 'OFDLCK');
    await scene.kill();
    assert(await scene.isRefused(await scene.client(RIVAL), 'early'));
    await peer.must(lock.release('', scene.at('early')));
  });

  it('has POSIX locks where there is no store, once it knows that', async () => {
    scene = await StoreScene.begin({ env: {}, limit: 0, delay: 0.5 });
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    await eventually('it is known', () => scene.kindOf('one') === 'POSIX');
    await peer.must(lock.acquire('', scene.at('two'), autocreate));
    assert.equal(scene.kindOf('two'), 'POSIX');
    assert.deepEqual(await scene.manager.stored(), []);
    await peer.must(lock.release('', scene.at('one')));
    await executeAgain(scene.pid);
    assert.equal(scene.kindOf('two'), 'POSIX');
  });

  it('tells how the former one ended', async () => {
    scene = await StoreScene.begin();
    await scene.kill('SIGABRT');
    await eventually('the log says it', () => scene.manager.log.includes('The former daemon was killed by SIGABRT'));
    await scene.kill('SIGTERM');
    await eventually('the log says it', () =>
      /The daemon with pid \d+, which served since \S+, left, /.test(scene.manager.log),
    );
    assert(!scene.manager.log.includes('It is not known how'));
    // Only the first one has died.
    const client = await Client.connect(scene.manager.adminSocket);
    const { counters } = await client.call(inquireProgram, 'counters', { flags: 0 });
    const { restarts } = await client.call(inquireProgram, 'status', { flags: 0 });
    client.close();
    const value = (wanted: string): number | undefined => counters.find(({ name }) => name === wanted)?.value;
    assert.deepEqual([value('deaths'), value('lastDeathSignal'), restarts], [1, constants.signals.SIGABRT, 1]);
  });

  it('empties the store for a release that knows no store', async () => {
    const program = new Program();
    try {
      scene = await StoreScene.begin({ program: program.path });
      const [peer, other] = [await scene.client(OWNER), await scene.client(OWNER)];
      for (let index = 0; index < 50; index++) await peer.must(lock.acquire('', scene.at(`f${index}`), autocreate));
      await other.must(lock.acquire('', scene.at('both'), shared | autocreate));
      const before = await eventually('all is stored', async () => {
        return (await scene.storedFiles()).length === 51 && (await scene.manager.stored()).length;
      });
      program.replace(PROOF_WITHOUT_KINDS);
      await executeAgain(scene.pid);
      assert.equal(await scene.manager.removed(), before);
      // The successor is in fact the same program, and finds the store.
      await eventually('all is stored again', async () => (await scene.manager.stored()).length === before);
      await eventually('the locks are changed back', () => scene.kindOf('f1') === 'OFDLCK');
      await peer.must(lock.release('', scene.at('f0')));
      await scene.kill();
      assert(await scene.isRefused(await scene.client(RIVAL), 'f1'));
    } finally {
      program.remove();
    }
  });

  it('leaves its state to the next one, which a SIGTERM before its first instruction does not end', async () => {
    const programs = mkdtempSync(join(tmpdir(), 'virtlockd-programs-'));
    try {
      const program = join(programs, 'virtlockd');
      const trace = join(programs, 'trace');
      const real = join(installRoot, 'bin/virtlockd');
      // What the shell executes is `launch`: the signal comes when the traps of the shell are gone.
      const inject = `exec strace -D -o ${trace} --trace=execve --inject=execve:signal=TERM:when=1 ${real} "$@"`;
      writeFileSync(program, `#!/bin/sh\n[ -n "$LISTEN_FDNAMES" ] && ${inject}\nexec ${real} "$@"\n`, { mode: 0o755 });
      scene = await StoreScene.begin({ program });
      const peer = await scene.client(OWNER);
      await peer.must(lock.acquire('', scene.at('one'), autocreate));
      await scene.kill();
      assert.match(readFileSync(trace, 'latin1'), /SIGTERM/);
      assert(await scene.isRefused(await scene.client(RIVAL), 'one'));
    } finally {
      rmSync(programs, { recursive: true, force: true });
    }
  });

  it('leaves its state to the next one at a SIGTERM that is not from a stop of systemd', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    await scene.rest();
    await scene.kill('SIGTERM');
    assert(await scene.isRefused(await scene.client(RIVAL), 'one'));
    await peer.must(lock.release('', scene.at('one')));
  });

  it('leaves its state at a SIGTERM that comes while it is executed again', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    const rival = await scene.client(RIVAL);
    const proof = join(scene.directory, 'root/run/virtlockd-restart-exec.json.new');
    for (let turn = 0; turn < 5; turn++) {
      await scene.rest();
      process.kill(scene.pid, 'SIGUSR1');
      await eventually('a successor is being proved', () => existsSync(proof));
      process.kill(scene.pid, 'SIGTERM');
      await scene.manager.next('ended');
      await scene.served();
      assert(await scene.isRefused(rival, 'one'));
    }
    await peer.must(lock.release('', scene.at('one')));
  });

  it('grants no owner again what it has, after a daemon that has left', async () => {
    scene = await StoreScene.begin();
    const peer = await scene.client(OWNER);
    await peer.must(lock.acquire('', scene.at('one'), autocreate));
    await scene.rest();
    await scene.kill('SIGTERM');
    const again = await scene.client(OWNER);
    assert(await scene.isRefused(again, 'one'));
    await again.must(lock.release('', scene.at('one')));
  });

  for (const [flags, isExclusive] of [
    [autocreate, true],
    [autocreate | shared, false],
  ] as const) {
    const what = isExclusive ? 'an exclusive lock again as the one' : 'a shared lock once more beside the one';
    it(`grants an owner ${what} that it has, where it has lost a newcomer that may have released it`, async () => {
      scene = await StoreScene.begin();
      const acquire = lock.acquire('', scene.at('one'), flags);
      const [peer, rival] = [await scene.client(OWNER), await scene.client(RIVAL)];
      await peer.must(acquire);
      await scene.rest();
      // The newcomer is accepted, and not stored yet.
      const killer = await scene.killer('sendmsg', 1);
      await assert.rejects(scene.client(OWNER), /closed instead of a reply|ECONNRESET/);
      await killer.letGo();
      await scene.served();
      assert(await scene.isRefused(rival, 'one'));
      await peer.must(acquire);
      if (isExclusive) assert(await scene.isRefused(peer, 'one'));
      const release = lock.release('', scene.at('one'));
      for (const left of isExclusive ? [0] : [1, 0]) {
        await peer.must(release);
        assert.equal(await scene.isRefused(rival, 'one'), left > 0);
      }
    });
  }
});
