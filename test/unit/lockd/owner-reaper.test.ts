import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { LockClient } from '../../../src/lockd/client.ts';
import { OwnerReaper } from '../../../src/lockd/owner-reaper.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Lockspace, Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { NO_PROCESS, type OwnerIdentity, unknownOwner } from '../../../src/lockspace/owner.ts';
import type { Connection } from '../../../src/rpc/connection.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { World } from '../support/processes.ts';

const SHARED = 1;
const AUTOCREATE = 2;

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
  /** A connection of the process with that pid, registered for itself. */
  const clientOf = (pid: number, registered = pid, id = 1): LockClient => {
    const fd = world.socketOf(pid);
    const connection = { id, fd, peer: { pid, uid: 0, gid: 0 }, keepSocket: () => fd } as unknown as Connection;
    const client = new LockClient(connection, {
      lockspaces,
      dialect: dialectOf(12_008_000),
      processes: world,
      clientChanged: () => undefined,
    });
    client.register(owner(registered));
    return client;
  };
  const held = (): string[] => [...files.resources.values()].map(({ name }) => name).sort();

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    lockspaces = new Lockspaces(dialectOf(12_008_000));
    files = lockspaces.create(directory.path);
    sockets = new Map();
    reaper = new OwnerReaper({ lockspaces, host: world, socketOf: (pid) => sockets.get(pid) });
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
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      'wait',
    );
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
    const ask = (): string =>
      outcome(() => {
        acquire(last, 400);
      });
    assert.equal(ask(), 'wait');
    while (reaper.count > 0) await turn();
    assert.equal(ask(), 'done');
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

  it('releases nothing that a later process has acquired for itself', () => {
    for (const gonePeer of [0, -3, -22]) {
      world.gonePeer = gonePeer;
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
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      'wait',
    );
    world.pass(3200);
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      '87',
    );
    world.pass(3_600_000);
    assert.deepEqual(held(), ['a']);
    assert.equal(reaper.overdue.length, 1);
    assert.deepEqual(world.signals.length, 2);
    world.end(300);
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      'done',
    );
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
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      '87',
    );
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
    reaper.end(300);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    world.end(300);
    assert.deepEqual(held(), []);
    acquire('b', 300, AUTOCREATE, 600);
    world.begin(300, 700);
    reaper.end(300);
    assert.equal(world.signals.length, 1, 'a later process of that pid');
    assert.deepEqual(held(), []);
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
    reaper.end(300);
    assert.deepEqual(held(), []);
    assert.deepEqual(world.signals, []);
  });

  it('keeps no pidfd of a connection that tells nothing new', () => {
    world.begin(300, 600);
    acquire('a', 300, AUTOCREATE, 600);
    sockets.set(300, world.socketOf(300));
    reaper.end(300);
    assert.deepEqual(world.signals, ['SIGTERM 300 at 0']);
    world.end(300);
    assert.equal(world.open, 0);
  });

  it('leaves very many holds of others on the same resource', () => {
    const others = 150_000;
    acquire('a', 300, SHARED | AUTOCREATE, NO_PROCESS);
    const other = { owner: owner(400), since: 0, client: 1 };
    for (let i = 0; i < others; i++) lockspaces.acquire(files, 'a', modeOf(SHARED), other);
    reaper.end(300);
    reaper.finish();
    assert.equal(files.resources.get('a')?.holds.length, others);
  });

  it('signals nobody by a pid alone, and waits until nobody has it', () => {
    world.begin(300, 600);
    acquire('a', 300);
    reaper.end(300);
    world.pass(10_000);
    assert.deepEqual(world.signals, []);
    assert.deepEqual(held(), ['a']);
    world.end(300);
    assert.deepEqual(held(), []);
  });

  it('knows a process that is older than the daemon by its pid', () => {
    world.begin(300, 400);
    acquire('a', 300);
    reaper.end(300);
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
    const successor = new OwnerReaper({ lockspaces, host: world, socketOf: () => undefined });
    const resource = files.resources.get('a');
    assert.ok(resource !== undefined);
    successor.resume(JSON.parse(JSON.stringify(state)) as typeof state, resource.holds);
    world.pass(700);
    assert.deepEqual(
      world.signals.filter((signal) => signal.startsWith('SIGTERM')),
      ['SIGTERM 300 at 0'],
    );
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      'wait',
    );
    world.pass(2000);
    assert.equal(
      outcome(() => {
        acquire('a', 400);
      }),
      '87',
    );
    world.end(300);
    assert.deepEqual(held(), []);
  });

  it('takes many releases in slices, and serves others between them', async () => {
    const count = 3000;
    for (let i = 0; i < count; i++) acquire(`r${i}`, 300, AUTOCREATE, NO_PROCESS);
    reaper.end(300);
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
    reaper.end(300);
    reaper.finish();
    assert.equal(files.resources.size, 0);
  });
});
