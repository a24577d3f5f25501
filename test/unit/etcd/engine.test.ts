/** What is asked of etcd at the same time, with a client of etcd that answers when the test says. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { EtcdRequests, Reply } from '../../../src/etcd/client.ts';
import { type EngineHost, EtcdEngine } from '../../../src/etcd/engine.ts';
import type { OwnerProcess } from '../../../src/etcd/guarded-owners.ts';
import { type Args, type OperationName, type Result } from '../../../src/etcd/messages.ts';
import { DEFAULT_ETCD } from '../../../src/etcd/settings.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { RemoteCalls } from '../../../src/lockspace/remote-calls.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { Asker, Turns } from '../../../src/storage/asker.ts';
import { Storages } from '../../../src/storage/storages.ts';
import { poller } from '../support/poller.ts';

const SPACE = '/etcd';
const LEASE = '7';
const AUTOCREATE = 2;
const BUSY = 87;

/** Exclusive locks, each by the resource with the revision at which it was made; a request is served when the test says. */
class FakeEtcd implements EtcdRequests {
  readonly locks = new Map<string, string>();
  readonly acquires: (() => void)[] = [];
  private revision = 0;

  request<N extends OperationName>(name: N, args: Args<N>, _limit: number, done: (reply: Reply<N>) => void): void {
    const answer = (result: unknown): void => {
      setImmediate(() => {
        done({ ok: true, result: result as Result<N> });
      });
    };
    if (name === 'grant') answer({ lease: LEASE, seconds: 30, cluster: '5' });
    else if (name === 'acquire') {
      const { resource } = args as Args<'acquire'>;
      // A lock on the host's own lease is left of an attempt that nobody waits for: see operations.ts.
      this.acquires.push(() => {
        const revision = String(++this.revision);
        this.locks.set(resource, revision);
        answer({ kind: 'granted', revision });
      });
    } else if (name === 'release') {
      const { resource, revision } = args as Args<'release'>;
      if (this.locks.get(resource) === revision) this.locks.delete(resource);
      answer(null);
    } else answer(null);
  }

  /** Has a request done. */
  async serve(index: number): Promise<void> {
    const [one] = this.acquires.splice(index, 1);
    assert.ok(one !== undefined);
    one();
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 8; i++) await turn();
}

describe('calls for a lock in etcd', () => {
  let etcd: FakeEtcd;
  let engine: EtcdEngine;
  let lockspaces: Lockspaces;
  let turns: Turns;
  /** Null: it cannot be told. */
  let process: OwnerProcess | null;

  beforeEach(async () => {
    etcd = new FakeEtcd();
    lockspaces = new Lockspaces(dialectOf(12_008_000));
    turns = new Turns();
    process = { pidfd: -1, startTime: 600 };
    const host: EngineHost = {
      lockspaces,
      clock: { now: () => 1000, setTimeout: () => undefined },
      processOf: () => process,
      closePidfd: () => undefined,
      isAlive: () => true,
      killOwners: () => undefined,
      changed: () => undefined,
    };
    engine = new EtcdEngine({ ...DEFAULT_ETCD, lockspaces: [SPACE] }, etcd, host);
    lockspaces.engine = engine;
    lockspaces.create(SPACE);
    const nothing = (): undefined => undefined;
    engine.start({
      isReady: true,
      add: (_token, _pidfd, done) => setImmediate(done, 0),
      remove: nothing,
      arm: nothing,
      keep: nothing,
    });
    await settle();
  });

  /** A connection that acquires a lock; its outcome is 0, or the code of the error. */
  class Call {
    outcome: number | undefined;
    private readonly remote = new RemoteCalls(new Storages(poller), new Asker(turns));
    private readonly pid: number;
    private readonly name: string;
    private readonly again: (make: () => void) => void;

    /** @param again gets what makes the call again */
    constructor(pid: number, name = 'disk', again: (make: () => void) => void = setImmediate) {
      this.pid = pid;
      this.name = name;
      this.again = again;
      this.make();
    }

    private make(): void {
      const space = lockspaces.find(SPACE);
      assert.ok(space !== undefined);
      const owner = { ...unknownOwner(this.pid), id: 1, startTime: 600 };
      try {
        this.remote.run(() => {
          lockspaces.acquire(space, this.name, modeOf(AUTOCREATE), { owner, since: 0, client: this.pid }, this.remote);
        });
        this.outcome = 0;
      } catch (error) {
        if (error instanceof Waiting)
          error.begin(() => {
            this.again(() => {
              this.make();
            });
          });
        else if (error instanceof RpcError) this.outcome = error.code;
        else throw error;
      }
    }

    hangUp(): void {
      this.remote.abandon();
    }
  }

  it('lose no lock to one that nobody waits for any more, and that is done later', async () => {
    const former = new Call(300);
    former.hangUp();
    const call = new Call(301);
    // The former one hangs at another member.
    while (call.outcome !== 0) await etcd.serve(etcd.acquires.length - 1);
    while (etcd.acquires.length > 0) await etcd.serve(0);
    assert.deepEqual([...etcd.locks.keys()], ['/virtlockd/locks/etcd/disk']);
  });

  it('lose no lock to one for an owner that cannot be told, and that is done later', async () => {
    process = null;
    const former = new Call(300);
    await settle();
    assert.equal(former.outcome, 38);
    process = { pidfd: -1, startTime: 600 };
    const call = new Call(301);
    while (call.outcome !== 0) await etcd.serve(etcd.acquires.length - 1);
    while (etcd.acquires.length > 0) await etcd.serve(0);
    assert.deepEqual([...etcd.locks.keys()], ['/virtlockd/locks/etcd/disk']);
  });

  it('lose no lock to one by another name', async () => {
    const [one, two] = [new Call(300), new Call(301, './disk')];
    while (etcd.acquires.length > 0) await etcd.serve(etcd.acquires.length - 1);
    assert.deepEqual([one.outcome, two.outcome], [0, BUSY]);
    assert.equal(etcd.locks.size, 1);
  });

  it('ask again for one that was given back by another name meanwhile', async () => {
    const made: (() => void)[] = [];
    new Call(300);
    const other = new Call(301, './disk', (make) => made.push(make));
    await etcd.serve(0);
    assert.equal(made.length, 1);
    const space = lockspaces.find(SPACE);
    assert.ok(space !== undefined);
    lockspaces.release(space, 'disk', 300);
    await settle();
    assert.deepEqual([engine.count, etcd.locks.size], [0, 0]);
    while (other.outcome === undefined) {
      for (const make of made.splice(0)) make();
      await settle();
      if (etcd.acquires.length > 0) await etcd.serve(0);
    }
    assert.deepEqual([other.outcome, etcd.locks.size], [0, 1]);
  });
});
