import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { LockClient } from '../../../src/lockd/client.ts';
import { findByPid } from '../../../src/lockd/owner-end.ts';
import { type OwnConnection, OwnerReaper } from '../../../src/lockd/owner-reaper.ts';
import { realHost } from '../../../src/lockd/process-host.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Lockspace, Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { type Hold, NO_PROCESS, type OwnerIdentity, unknownOwner } from '../../../src/lockspace/owner.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { World } from '../support/processes.ts';
import { RemoteCalls } from '../../../src/lockspace/remote-calls.ts';
import { Asker, Turns } from '../../../src/storage/asker.ts';
import { Storages } from '../../../src/storage/storages.ts';
import { poller } from '../support/poller.ts';

const SHARED = 1;
const AUTOCREATE = 2;

const NO_CONNECTIONS = { connectionOf: () => undefined, connectionOfHold: () => undefined };

describe('the end of owners', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let world: World;
  let lockspaces: Lockspaces;
  let files: Lockspace;
  let reaper: OwnerReaper;
  let sockets: Map<number, number>;

  const owner = (pid: number, startTime?: number): OwnerIdentity => ({
    ...unknownOwner(pid),
    id: 1,
    ...(startTime === undefined ? {} : { startTime }),
  });
  const acquire = (name: string, pid: number, flags = AUTOCREATE, startTime?: number): void => {
    lockspaces.acquire(files, name, modeOf(flags), { owner: owner(pid, startTime), since: 0, client: 1 });
  };
  /** The outcome of a call: `done`, `wait`, or the code of its error. */
  const outcome = (call: () => void): string => {
    try {
      call();
      return 'done';
    } catch (error) {
      if (error instanceof Waiting) return 'wait';
      if (error instanceof RpcError) return String(error.code);
      throw error;
    }
  };
  /** The outcome for another owner that asks for this exclusively. */
  const asking = (name: string): string =>
    outcome(() => {
      acquire(name, 400);
    });
  /** A connection of the process with that pid, registered for itself. */
  const clientOf = (pid: number, registered = pid, id = 1): LockClient => {
    const fd = world.socketOf(pid);
    const connection = {
      id,
      fd,
      peer: { pid, uid: 0, gid: 0 },
      keepSocket: () => fd,
    } as unknown as Connection<LockClient>;
    const client = new LockClient(connection, {
      lockspaces,
      dialect: dialectOf(12_008_000),
      processes: world,
      ownerReaper: reaper,
      clientChanged: () => undefined,
      makeRemoteCalls: () => new RemoteCalls(new Storages(poller), new Asker(new Turns())),
    });
    client.register(owner(registered));
    return client;
  };
  /** Ends all that have this pid and hold something. */
  const endAll = (pid: number): void => {
    const holds = [...files.resources.values()].flatMap((resource) => resource.holds);
    reaper.end(holds.filter((hold) => hold.owner.pid === pid));
  };
  const held = (): string[] => [...files.resources.values()].map(({ name }) => name).sort();

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    lockspaces = new Lockspaces(dialectOf(12_008_000));
    files = lockspaces.create(directory.path);
    sockets = new Map();
    const connectionOf = (pid: number): OwnConnection | undefined => {
      const socket = sockets.get(pid);
      return socket === undefined ? undefined : { socket, startTime: undefined };
    };
    reaper = new OwnerReaper({
      lockspaces,
      host: world,
      connectionOf,
      connectionOfHold: ({ owner: { pid } }) => connectionOf(pid),
    });
  });
  afterEach(() => {
    for (const resource of [...files.resources.values()]) lockspaces.endResource(resource);
    directory.remove();
  });

  it('holds the locks until the process is gone, and then releases them', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    world.pass(1500);
    assert.deepEqual(held(), ['a']);
    assert.equal(asking('a'), 'wait');
    world.end(300);
    assert.deepEqual(held(), []);
    assert.ok(!existsSync(path.join(directory.path, 'a')));
    assert.equal(world.open, 0);
    assert.equal(reaper.count, 0);
  });

  it('has those wait who ask for what is left to be released of an owner that is gone', async () => {
    world.begin(300);
    const names = Array.from({ length: 2000 }, (_, index) => `n${index}`);
    for (const name of names) acquire(name, 300);
    reaper.clientClosed(clientOf(300));
    world.end(300);
    const last = held().at(-1) ?? '';
    assert.notEqual(last, '', 'all fitted into one slice');
    assert.equal(asking(last), 'wait');
    while (reaper.count > 0) await turn();
    assert.equal(asking(last), 'done');
  });

  it('leaves alone what a later process of the pid holds, when a child of the former one lets go of its connection', () => {
    for (const [gonePeer, isOld] of [[0], [-3], [-22], [0, true]] as const) {
      world.gonePeer = gonePeer;
      world.isOld = isOld === true;
      world.begin(300, 600);
      const former = clientOf(300);
      world.end(300);
      world.begin(300, 900);
      acquire('a', 300, AUTOCREATE, 900);
      reaper.clientClosed(former);
      world.pass(5000);
      assert.deepEqual([held(), world.signals], [['a'], []]);
      lockspaces.release(files, 'a', 300);
      world.end(300);
    }
  });

  /** A child of a process that is gone has its connection, and another process its pid and a lock. */
  const laterProcess = (): LockClient => {
    world.begin(300, 600);
    const former = clientOf(300);
    world.end(300);
    world.begin(300, 900);
    acquire('a', 300, AUTOCREATE, 900);
    return former;
  };

  it('releases nothing of a later process while it cannot ask for the peer, and asks again', () => {
    const former = laterProcess();
    acquire('b', 300, AUTOCREATE, 600);
    world.exhausted = true;
    reaper.clientClosed(former);
    world.pass(1000);
    assert.deepEqual(held(), ['a', 'b']);
    world.exhausted = false;
    acquire('c', 300, AUTOCREATE, 600);
    world.pass(5000);
    assert.deepEqual([held(), world.signals, world.open], [['a', 'c'], [], 0]);
  });

  it('goes on in the next program with a peer that cannot be asked for, and takes no lock of a later process', () => {
    const former = laterProcess();
    acquire('b', 300, AUTOCREATE, 600);
    world.exhausted = true;
    reaper.clientClosed(former);
    world.pass(1000);
    const left = reaper.doubtful;
    assert.deepEqual(
      left.map(({ pid, socket }) => [pid, socket]),
      [[300, former.connection.fd]],
    );
    // Whatever the former one would do is past.
    world.forgetTimers();
    const next = new OwnerReaper({ lockspaces, host: world, ...NO_CONNECTIONS });
    const recorded: number[] = [];
    next.recorder = { ...next.recorder, watchedChanged: () => recorded.push(next.doubtful.length) };
    for (const peer of left) next.resumePeer(peer);
    world.pass(1000);
    assert.equal(next.doubtful.length, 1);
    // A later process for itself: by a connection of its own.
    lockspaces.acquire(files, 'c', modeOf(AUTOCREATE), { owner: owner(300), since: 0, client: 7 });
    world.exhausted = false;
    world.pass(5000);
    assert.deepEqual([held(), world.signals, recorded], [['a', 'c'], [], [0]]);
  });

  it('releases nothing that a later process has acquired for itself', () => {
    for (const [gonePeer, isOld] of [[0], [-3], [-22], [0, true]] as const) {
      world.gonePeer = gonePeer;
      world.isOld = isOld === true;
      world.begin(300, 600);
      const former = clientOf(300, 300, 2);
      world.end(300);
      world.begin(300, 900);
      const later = clientOf(300);
      acquire('a', 300);
      reaper.clientClosed(former);
      world.pass(5000);
      assert.deepEqual([held(), world.signals], [['a'], []]);
      world.end(300);
      reaper.clientClosed(later);
      world.pass(0);
      assert.deepEqual(held(), []);
    }
  });

  it('releases nothing of a later process while start times are unknown', () => {
    for (const gonePeer of [0, -3, -22]) {
      world.gonePeer = gonePeer;
      const former = laterProcess();
      const startTime = world.startTime.bind(world);
      world.startTime = () => undefined;
      reaper.clientClosed(former);
      world.startTime = startTime;
      world.pass(5000);
      assert.deepEqual([held(), world.signals], [['a'], []]);
      lockspaces.release(files, 'a', 300);
      world.end(300);
    }
  });

  it('knows a later process by the start time of the connection after a restart, where the kernel does not report peers', () => {
    world.isOld = true;
    const former = laterProcess();
    former.peerStart = undefined;
    Object.assign(former.connection.peer, { startTime: 600 });
    reaper.clientClosed(former);
    world.pass(5000);
    assert.deepEqual([held(), world.signals], [['a'], []]);
  });

  it('ends with its connection also what others acquired for the owner, be it there or reaped', () => {
    for (const [gonePeer, isOld] of [[0], [-3], [-22], [0, true]] as const) {
      world.gonePeer = gonePeer;
      world.isOld = isOld === true;
      world.begin(300, 600);
      acquire('a', 300, AUTOCREATE, 600);
      const client = clientOf(300);
      if (gonePeer < 0) world.end(300);
      reaper.clientClosed(client);
      assert.equal(reaper.count, gonePeer < 0 ? 0 : 1);
      world.end(300);
      world.pass(5000);
      assert.deepEqual(held(), []);
    }
  });

  it('sends SIGKILL after 1.6 s', () => {
    world.begin(300);
    acquire('a', 300);
    world.onSignal = (signal, pid) => {
      if (signal === 'SIGKILL') world.end(pid);
    };
    reaper.clientClosed(clientOf(300));
    world.pass(3000);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0', 'SIGKILL 300 at 1600']);
    assert.deepEqual(held(), []);
  });

  it('never gives away the locks of a process that does not die, and has nobody wait for longer than 3 s', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    assert.equal(asking('a'), 'wait');
    world.pass(3200);
    assert.equal(asking('a'), '87');
    world.pass(3_600_000);
    assert.deepEqual(held(), ['a']);
    assert.equal(reaper.overdue.length, 1);
    assert.deepEqual(world.signals.length, 2);
    world.end(300);
    assert.equal(asking('a'), 'done');
  });

  it('wakes who waits when the owner is gone, and after 3 s when it is not; who hung up is forgotten', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    const woken: string[] = [];
    const wait = (name: string): (() => void) => {
      try {
        acquire('a', 400);
      } catch (error) {
        if (error instanceof Waiting) return error.begin(() => woken.push(name));
      }
      throw new Error('it did not wait');
    };
    wait('first');
    const forget = wait('second');
    wait('third');
    forget();
    world.pass(2800);
    assert.deepEqual(woken, []);
    world.pass(400);
    assert.deepEqual(woken, ['first', 'third']);
  });

  it('has those wait who release, create or delete, too', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    const calls = [
      (): void => {
        lockspaces.release(files, 'a', 300);
      },
      (): void => {
        lockspaces.createResource(files, 'a');
      },
      (): void => {
        lockspaces.deleteResource(files, 'a');
      },
      (): void => {
        lockspaces.release(files, 'a', 400);
      },
    ];
    assert.deepEqual(calls.map(outcome), ['wait', 'wait', 'wait', 'wait']);
    world.pass(3200);
    assert.deepEqual(calls.map(outcome), ['87', '87', '87', '87']);
    assert.deepEqual(held(), ['a']);
  });

  it('lets others share what an ending owner shares', () => {
    world.begin(300);
    acquire('a', 300, SHARED | AUTOCREATE);
    reaper.clientClosed(clientOf(300));
    assert.equal(
      outcome(() => {
        acquire('a', 400, SHARED);
      }),
      'done',
    );
    assert.equal(
      outcome(() => {
        acquire('a', 500);
      }),
      '87',
      'held by 400, who is not ending',
    );
    assert.equal(
      outcome(() => {
        lockspaces.release(files, 'a', 300);
      }),
      '1',
    );
    world.end(300);
    assert.deepEqual(
      files.resources.get('a')?.holds.map(({ owner: { pid } }) => pid),
      [400],
    );
  });

  it('leaves what is acquired for the owner after its end has begun', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    acquire('b', 300);
    world.end(300);
    assert.deepEqual(held(), ['b']);
  });

  it('takes nothing for gone while it cannot find out, and signals once it can', () => {
    world.begin(300);
    acquire('a', 300);
    const client = clientOf(300);
    world.exhausted = true;
    reaper.clientClosed(client);
    world.pass(10_000);
    assert.deepEqual(world.signals, []);
    assert.deepEqual(held(), ['a']);
    assert.equal(asking('a'), '87');
    world.exhausted = false;
    world.pass(5000);
    assert.match(world.signals.join(), /^SIGTERM 300/);
    world.end(300);
    assert.deepEqual(held(), []);
  });

  it('spares a stranger that has the pid of an owner that is gone, and releases at once', () => {
    world.begin(300);
    acquire('a', 300);
    const client = clientOf(300);
    world.end(300);
    world.begin(300, 700);
    reaper.clientClosed(client);
    world.pass(0);
    assert.deepEqual(world.signals, []);
    assert.deepEqual(held(), []);
  });

  it('goes by the start time where the kernel does not tell who a peer is', () => {
    world.isOld = true;
    world.begin(300, 600);
    acquire('a', 300, AUTOCREATE, 600);
    endAll(300);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    world.end(300);
    assert.deepEqual(held(), []);
    acquire('b', 300, AUTOCREATE, 600);
    world.begin(300, 700);
    endAll(300);
    assert.equal(world.signals.length, 1, 'a later process of that pid');
    assert.deepEqual(held(), []);
  });

  it('ends the process whose lock is lost, with all its locks, and not another one that has had its pid', () => {
    world.begin(300, 700);
    acquire('of the former', 300, AUTOCREATE, 600);
    acquire('by libvirtd', 300, AUTOCREATE, 700);
    acquire('by itself', 300);
    sockets.set(300, world.socketOf(300));
    const holdsOf = (name: string): readonly Hold[] => files.resources.get(name)?.holds ?? [];
    reaper.end(holdsOf('of the former'));
    assert.deepEqual([held(), world.signals], [['by itself', 'by libvirtd'], []]);
    reaper.end(holdsOf('by itself'));
    assert.deepEqual([reaper.count, world.signals], [1, ['SIGTERM 300 at 0']]);
    assert.equal(asking('by libvirtd'), 'wait');
    world.end(300);
    assert.deepEqual(held(), []);
    assert.equal(world.open, 0);
  });

  it('tries again for the locks that are lost, and not for those of a process that has the pid by then', () => {
    world.begin(300);
    acquire('a', 300);
    sockets.set(300, world.socketOf(300));
    world.exhausted = true;
    endAll(300);
    lockspaces.release(files, 'a', 300);
    world.exhausted = false;
    world.end(300);
    world.begin(300, 900);
    acquire('b', 300);
    sockets.set(300, world.socketOf(300));
    world.pass(5000);
    assert.deepEqual([held(), world.signals], [['b'], []]);
  });

  it('takes a peer that the kernel does not find any more for gone, by whatever it says so', () => {
    for (const errno of ['ESRCH', 'EINVAL'] as const) {
      world.gonePeer = -os.constants.errno[errno];
      world.begin(300);
      acquire(errno, 300);
      const client = clientOf(300);
      world.end(300);
      reaper.clientClosed(client);
      assert.deepEqual(held(), []);
    }
  });

  it('says nothing of a peer that is gone and not yet known to be', () => {
    world.begin(300);
    acquire('a', 300);
    const client = clientOf(300);
    world.end(300);
    const { path: directory, remove } = temporaryDirectory();
    const recorder = new LogRecorder(path.join(directory, 'log'));
    try {
      reaper.clientClosed(client);
      world.pass(0);
      assert.deepEqual([held(), recorder.lines], [[], []]);
    } finally {
      recorder.stop();
      remove();
    }
  });

  it('spares a stranger, however old, that has the pid of a registered peer that is gone', () => {
    world.gonePeer = -os.constants.errno.ESRCH;
    world.begin(300, 400);
    acquire('a', 300);
    sockets.set(300, world.socketOf(300));
    world.end(300);
    world.begin(300, 450);
    endAll(300);
    assert.deepEqual(held(), []);
    assert.deepEqual(world.signals, []);
  });

  it('keeps no pidfd of a connection that tells nothing new', () => {
    world.begin(300, 600);
    acquire('a', 300, AUTOCREATE, 600);
    sockets.set(300, world.socketOf(300));
    endAll(300);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    world.end(300);
    assert.equal(world.open, 0);
  });

  it('leaves very many holds of others on the same resource', () => {
    const others = 150_000;
    acquire('a', 300, SHARED | AUTOCREATE, NO_PROCESS);
    const other = { owner: owner(400), since: 0, client: 1 };
    for (let i = 0; i < others; i++) lockspaces.acquire(files, 'a', modeOf(SHARED), other);
    endAll(300);
    reaper.finish();
    assert.equal(files.resources.get('a')?.holds.length, others);
  });

  it('signals nobody by a pid alone, and waits until nobody has it', () => {
    world.begin(300, 600);
    acquire('a', 300);
    endAll(300);
    world.pass(10_000);
    assert.deepEqual(world.signals, []);
    assert.deepEqual(held(), ['a']);
    world.end(300);
    assert.deepEqual(held(), []);
  });

  it('knows a process that is older than the daemon by its pid', () => {
    world.begin(300, 400);
    acquire('a', 300);
    endAll(300);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
  });

  it('ends who has no connection of its own when the daemon ends, and not pid 0 or a number of another namespace', async () => {
    world.begin(300, 600);
    acquire('a', 300, AUTOCREATE, 600);
    acquire('b', 0);
    lockspaces.acquire(files, 'c', modeOf(AUTOCREATE), {
      owner: { ...owner(300), isForeign: true },
      since: 0,
      client: 1,
    });
    acquire('d', 400, AUTOCREATE, NO_PROCESS);
    reaper.endAll();
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    assert.deepEqual(held(), ['a', 'b', 'c'], 'nobody had the pid 400');
    const killed = reaper.allKilled();
    world.end(300);
    await killed;
    reaper.finish();
    assert.deepEqual(held(), ['b', 'c']);
  });

  it('counts a connection with pid 0 on both sides, or from another namespace, as nobody’s own', () => {
    acquire('a', 0);
    reaper.clientClosed(clientOf(0));
    world.local = false;
    world.begin(300);
    acquire('b', 300);
    reaper.clientClosed(clientOf(300));
    assert.deepEqual(world.signals, []);
    assert.equal(reaper.count, 0);
    assert.deepEqual(held(), ['a', 'b']);
  });

  it('leaves who holds nothing, and whom another called for', () => {
    world.begin(300);
    world.begin(301);
    reaper.clientClosed(clientOf(300));
    acquire('a', 300);
    reaper.clientClosed(clientOf(301, 300));
    assert.deepEqual(world.signals, []);
    assert.equal(reaper.count, 0);
  });

  it('goes on after a re-execution where it was', () => {
    world.begin(300);
    acquire('a', 300);
    reaper.clientClosed(clientOf(300));
    world.pass(1000);
    const [state] = reaper.unfinished.map((end) => end.state);
    assert.ok(state !== undefined);
    const successor = new OwnerReaper({ lockspaces, host: world, ...NO_CONNECTIONS });
    const resource = files.resources.get('a');
    assert.ok(resource !== undefined);
    successor.resume(JSON.parse(JSON.stringify(state)) as typeof state, resource.holds);
    world.pass(700);
    assert.deepEqual(
      world.signals.filter((signal) => signal.startsWith('SIGTERM')),
      ['SIGTERM 300 at 0'],
    );
    assert.equal(asking('a'), 'wait');
    world.pass(2000);
    assert.equal(asking('a'), '87');
    world.end(300);
    assert.deepEqual(held(), []);
  });

  it('takes many releases in slices, and serves others between them', async () => {
    const count = 3000;
    for (let i = 0; i < count; i++) acquire(`r${i}`, 300, AUTOCREATE, NO_PROCESS);
    endAll(300);
    assert.ok(files.resources.size > 1, 'all were released at once');
    let turns = 0;
    while (files.resources.size > 0) {
      await turn();
      turns++;
    }
    assert.ok(turns > 1);
  });

  it('finishes at once when it has to, before a restart', () => {
    for (let i = 0; i < 3000; i++) acquire(`r${i}`, 300, AUTOCREATE, NO_PROCESS);
    endAll(300);
    reaper.finish();
    assert.equal(files.resources.size, 0);
  });

  it('does not visit all the others for each owner of very many that are gone together', async () => {
    /** How often the clock is read while so many end. */
    const readings = async (count: number): Promise<number> => {
      const pids = Array.from({ length: count }, (_, index) => 2000 + index);
      for (const pid of pids) {
        world.begin(pid);
        acquire(`of${pid}`, pid);
      }
      for (const pid of pids) reaper.clientClosed(clientOf(pid));
      world.readings = 0;
      for (const pid of pids) world.end(pid);
      const { readings } = world;
      while (reaper.count > 0) await turn();
      return readings;
    };
    const few = await readings(50);
    assert.ok((await readings(200)) <= 5 * (few + 1), 'four times as many take about four times as long');
  });

  it('drops the holds of an owner in one pass, however many it and others have on one resource', () => {
    /** How often a hold is visited. */
    const looks = (count: number): number => {
      let looks = 0;
      const name = `shared${count}`;
      const own = owner(300, 600);
      world.begin(300);
      for (let index = 0; index < count; index++) {
        acquire(name, 5000 + index, AUTOCREATE | SHARED);
        lockspaces.acquire(files, name, modeOf(AUTOCREATE | SHARED), { owner: own, since: 0, client: 1 });
      }
      const resource = files.resources.get(name);
      assert.ok(resource !== undefined);
      const { holds } = resource;
      for (const [index, hold] of holds.entries()) {
        const counted = new Proxy(hold, {
          get: (target, key) => {
            looks++;
            return Reflect.get(target, key) as unknown;
          },
        });
        resource.replaceHold(index, counted);
      }
      endAll(300);
      world.end(300);
      reaper.finish();
      assert.equal(holds.length, count);
      return looks;
    };
    const few = looks(50);
    assert.ok(looks(200) <= 5 * few, 'four times as many take about four times as long');
  });

  describe('follows an owner for which others acquire', () => {
    /** As libvirtd acquires for a guest that has no connection. */
    const acquireFor = (name: string, pid: number, peer = 77): void => {
      const client = clientOf(peer, pid, 9);
      const identity = client.identify(client.owner ?? owner(pid));
      lockspaces.acquire(files, name, modeOf(AUTOCREATE), { owner: identity, since: 0, client: 9 });
      reaper.follow(identity);
    };

    it('and releases its holds once its process has ended, without a signal', () => {
      world.begin(300);
      acquireFor('a', 300);
      acquireFor('b', 300);
      world.pass(10_000);
      assert.deepEqual([held(), world.open], [['a', 'b'], 1]);
      world.end(300);
      world.pass(0);
      assert.deepEqual([held(), world.signals, world.open, reaper.count], [[], [], 0, 0]);
    });

    it('but not what a later process with its pid holds', () => {
      world.begin(300, 600);
      acquireFor('a', 300);
      acquire('later', 300, AUTOCREATE, 900);
      acquire('own', 300);
      world.end(300);
      world.pass(0);
      assert.deepEqual(held(), ['later', 'own']);
    });

    it('and sees that the process ended before it could be watched', () => {
      world.begin(300, 600);
      const identity = owner(300, 600);
      lockspaces.acquire(files, 'a', modeOf(AUTOCREATE), { owner: identity, since: 0, client: 9 });
      world.end(300);
      world.begin(300, 900);
      reaper.follow(identity);
      world.pass(0);
      assert.deepEqual([held(), world.signals, world.open], [[], [], 0]);
    });

    it('and tries again while it cannot find out', () => {
      world.begin(300, 600);
      const identity = owner(300, 600);
      lockspaces.acquire(files, 'a', modeOf(AUTOCREATE), { owner: identity, since: 0, client: 9 });
      world.exhausted = true;
      reaper.follow(identity);
      world.pass(20_000);
      assert.deepEqual(held(), ['a']);
      world.exhausted = false;
      world.pass(6000);
      world.end(300);
      world.pass(0);
      assert.deepEqual([held(), world.open], [[], 0]);
    });

    it('unless its pid means another process here, or none that is known', () => {
      for (const [local, begins] of [
        [false, true],
        [undefined, true],
        [true, false],
      ] as const) {
        world.local = local;
        if (begins) world.begin(300);
        acquireFor('a', 300);
        if (begins) world.end(300);
        world.pass(10_000);
        assert.deepEqual([held(), world.open], [['a'], 0], `local: ${local}`);
        lockspaces.release(files, 'a', 300);
      }
    });

    it("unless it has a connection of its own, whose end is the owner's", () => {
      world.begin(300);
      sockets.set(300, world.socketOf(300));
      acquireFor('a', 300);
      assert.equal(world.open, 0);
    });

    it('again after a re-execution', () => {
      world.begin(300, 600);
      acquire('a', 300, AUTOCREATE, 600);
      assert.equal(world.open, 0);
      assert.deepEqual([...reaper.followAll()], [undefined]);
      world.end(300);
      world.pass(0);
      assert.deepEqual(held(), []);
    });

    it('no longer, some time after it has released everything', () => {
      for (let pid = 300; pid < 600; pid++) {
        world.begin(pid);
        acquireFor('a', pid);
        lockspaces.release(files, 'a', pid);
      }
      assert.ok(world.open < 100, `${world.open} pidfds are open`);
    });
  });

  describe('of an owner without a connection, whose process is watched', () => {
    const acquireBy = (name: string, client: number, startTime?: number): void => {
      lockspaces.acquire(files, name, modeOf(AUTOCREATE), { owner: owner(300, startTime), since: 0, client });
    };

    it('comes when its process has ended, and takes nothing of the one that has its pid then', () => {
      world.begin(300, 900);
      acquireBy('former', 1);
      acquireBy('named', 1, 600);
      acquireBy('present', 9);
      acquireBy('named-present', 9, 900);
      reaper.watch({ pid: 300, startTime: 600, client: 5 });
      world.pass(0);
      assert.deepEqual([held(), world.signals, reaper.watched], [['named-present', 'present'], [], []]);
    });

    it('comes also when the process could not be found for long, which is on record all the while', () => {
      world.begin(300, 600);
      acquireBy('a', 1);
      world.exhausted = true;
      const recorded: (number | undefined)[][] = [];
      reaper.recorder = {
        ...reaper.recorder,
        watchedChanged: () => recorded.push(reaper.watched.map(({ pidfd }) => pidfd)),
      };
      const watched = { pid: 300, startTime: 600, client: 5 };
      reaper.watch(watched);
      world.pass(10_000);
      assert.deepEqual([reaper.watched, recorded], [[watched], []]);
      world.exhausted = false;
      world.pass(1000);
      assert.equal(recorded.length, 1);
      assert.notEqual(recorded[0]?.[0], undefined);
      world.end(300);
      world.pass(0);
      assert.deepEqual([held(), world.signals, recorded.at(-1)], [[], [], []]);
    });

    it('comes once no process has its pid, if nothing else is known of it', () => {
      world.begin(300, 900);
      acquireBy('a', 1);
      reaper.watch({ pid: 300, client: 5 });
      world.pass(10_000);
      assert.deepEqual(held(), ['a']);
      world.end(300);
      world.pass(0);
      assert.deepEqual([held(), world.signals], [[], []]);
    });
  });

  it('is on record before the peer can see it, for one that lives on would keep its locks after a death', () => {
    for (const isExhausted of [false, true]) {
      world.begin(300);
      const steps: string[] = [];
      const fd = world.socketOf(300);
      const client = clientOf(300);
      Object.assign(client.connection, { fd, keepSocket: () => steps.push('hung up') });
      acquire('a', 300, AUTOCREATE, isExhausted ? 600 : undefined);
      reaper.recorder = {
        ...reaper.recorder,
        endBegan: () => steps.push('recorded'),
        watchedChanged: () => steps.push('recorded'),
      };
      world.exhausted = isExhausted;
      reaper.clientClosed(client);
      assert.deepEqual(steps.slice(0, 2), ['recorded', 'hung up']);
      world.exhausted = false;
      world.pass(0);
      world.end(300);
      world.pass(1000);
    }
  });

  describe('releases what dead owners hold when an operator asks', () => {
    const all = (): boolean => true;

    it('proven by the start time, or because no process had the pid', async () => {
      world.begin(300, 900);
      acquire('former', 300, AUTOCREATE, 600);
      acquire('present', 300, AUTOCREATE, 900);
      acquire('none', 301, AUTOCREATE, NO_PROCESS);
      assert.equal(reaper.releaseDead(300, all, false), 1);
      assert.equal(reaper.releaseDead(301, all, false), 1);
      world.pass(0);
      // A release may wait for a trial of the file system.
      await until('both are released', () => held().length === 1);
      assert.deepEqual([held(), world.signals], [['present'], []]);
    });

    it('but nothing in doubt', () => {
      acquire('from-c', 300);
      lockspaces.acquire(files, 'foreign', modeOf(AUTOCREATE), {
        owner: { ...owner(301), isForeign: true },
        since: 0,
        client: 1,
      });
      acquire('xen', 0);
      world.begin(302, 600);
      acquire('unknown', 302, AUTOCREATE, 600);
      world.exhausted = true;
      for (const pid of [300, 301, 0, 302]) assert.equal(reaper.releaseDead(pid, all, false), 0, String(pid));
      for (const pid of [301, 0, 302]) assert.equal(reaper.releaseDead(pid, all, true), 0, String(pid));
      world.exhausted = false;
      assert.equal(reaper.releaseDead(302, all, true), 0);
      assert.deepEqual(held(), ['foreign', 'from-c', 'unknown', 'xen']);
      assert.equal(reaper.releaseDead(300, all, true), 1, 'the operator knows its namespace');
      assert.deepEqual(held(), ['foreign', 'unknown', 'xen']);
    });

    it('on one resource', () => {
      acquire('a', 300, AUTOCREATE, NO_PROCESS);
      acquire('b', 300, AUTOCREATE, NO_PROCESS);
      assert.equal(
        reaper.releaseDead(300, ({ name }) => name === 'b', false),
        1,
      );
      assert.deepEqual(held(), ['a']);
    });
  });
});

describe('finding a process by its number', () => {
  it('knows that the owner is gone whose number a thread has by now', () => {
    const [thread] = readdirSync('/proc/self/task')
      .map(Number)
      .filter((id) => id !== process.pid);
    assert.ok(thread !== undefined);
    const host = realHost(poller);
    assert.deepEqual(findByPid(thread, 1, host), { kind: 'gone' });
    assert.deepEqual(findByPid(thread, NO_PROCESS, host), { kind: 'gone' });
    assert.equal(findByPid(thread, undefined, host).kind, 'unknown');
  });
});
