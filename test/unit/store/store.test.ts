import assert from 'node:assert/strict';
import { StoredKind } from '../../../src/store/names.ts';
import { DescriptorStore, type ManagerLink } from '../../../src/store/store.ts';

const EAGAIN = -11;
const EBADF = -9;
const ECONNREFUSED = -111;

/** A manager that records what the store sends, and can refuse it. */
class Manager implements ManagerLink {
  readonly sent: string[] = [];
  /** The status that `send` returns. */
  status = 0;
  /** How many datagrams fit into its queue. */
  room = Infinity;
  connections = 0;
  waited = 0;
  time = 0;
  private due: (() => void)[] = [];

  connect(): number {
    return ++this.connections;
  }
  send(_socket: number, text: string, fd: number, milliseconds: number): number {
    if (this.status === 0 && this.room-- > 0) {
      this.sent.push(`${text.replaceAll('\n', ' ')} ${fd}`);
      return 0;
    }
    this.waited += milliseconds;
    return this.status === 0 ? EAGAIN : this.status;
  }
  close(): void {
    // There is nothing to close.
  }
  now(): number {
    return this.time;
  }
  setTimeout(callback: () => void): void {
    this.due.push(callback);
  }
  /** Runs the due timers. */
  pass(): void {
    this.time += 10_000;
    for (const callback of this.due.splice(0)) callback();
  }
}

describe('the client of the descriptor store', () => {
  const make = (): { manager: Manager; store: DescriptorStore; words: Uint32Array } => {
    const manager = new Manager();
    const words = new Uint32Array(64);
    return { manager, words, store: new DescriptorStore('/run/notify', words, manager) };
  };

  it('stores and removes each descriptor once, by its name', () => {
    const { manager, store } = make();
    store.keep(5, StoredKind.FILE);
    store.keep(5, StoredKind.FILE);
    assert(store.isKept(5));
    store.drop(5);
    store.drop(5);
    store.keep(5, StoredKind.FILE);
    assert.deepEqual(manager.sent, [
      'FDSTORE=1 FDPOLL=0 FDNAME=F0 5',
      'FDSTOREREMOVE=1 FDNAME=F0 -1',
      'FDSTORE=1 FDPOLL=0 FDNAME=F1 5',
    ]);
    assert.equal(store.count, 1);
  });

  it('names descriptors that it does not store, and ignores those beyond the table', () => {
    const { manager, store } = make();
    assert.notEqual(store.nameFor(5, StoredKind.FILE), 0);
    assert(!store.isKept(5));
    assert.equal(store.keep(64, StoredKind.FILE), 0);
    store.drop(5);
    assert.deepEqual(manager.sent, []);
  });

  it('waits for a full queue once, and sends the rest later, in order', () => {
    const { manager, store } = make();
    manager.room = 1;
    for (const fd of [3, 4, 5, 6]) store.keep(fd, StoredKind.LOCK_CLIENT);
    store.drop(3);
    // A descriptor that was never sent need not be removed.
    store.drop(5);
    assert.equal(manager.waited, 20);
    assert.equal(store.unsentCount, 2);
    assert(!store.isKept(4));
    manager.room = 2;
    manager.pass();
    manager.room = Infinity;
    manager.pass();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['C0 3', 'C1 4', 'C3 6', 'C0 -1'],
    );
    assert.equal(store.unsentCount, 0);
    assert(store.isKept(4));
  });

  it('connects again when the manager has a new socket', () => {
    const { manager, store } = make();
    manager.status = ECONNREFUSED;
    store.keep(3, StoredKind.FILE);
    manager.status = 0;
    manager.pass();
    assert.equal(manager.connections, 2);
    assert(store.isKept(3));
  });

  it("keeps the previous process's names, and gives later ones to new descriptors", () => {
    const { manager, words, store } = make();
    store.keep(3, StoredKind.FILE);
    store.nameFor(4, StoredKind.FILE);
    const next = new DescriptorStore('/run/notify', words, manager);
    assert(next.isKept(3));
    assert(!next.isKept(4));
    assert.equal(next.count, 1);
    next.keep(9, StoredKind.FILE);
    assert.equal(manager.sent.at(-1), 'FDSTORE=1 FDPOLL=0 FDNAME=F2 9');
  });

  it('removes all descriptors and stores them again', () => {
    const { manager, store } = make();
    for (const fd of [3, 4]) store.keep(fd, StoredKind.FILE);
    manager.sent.length = 0;
    store.empty();
    store.storeAgain();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['F0 -1', 'F1 -1', 'F0 3', 'F1 4'],
    );
  });

  it('takes out what was there before it could not be put in again', () => {
    const { manager, store } = make();
    for (const fd of [3, 4]) store.keep(fd, StoredKind.FILE);
    manager.sent.length = 0;
    manager.room = 0;
    store.storeAgain();
    store.drop(4);
    manager.room = Infinity;
    manager.pass();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['F0 3', 'F1 -1'],
    );
  });

  it('is not kept from anything by a descriptor that is closed', () => {
    const { manager, store } = make();
    manager.status = EBADF;
    store.keep(3, StoredKind.FILE);
    manager.status = 0;
    store.keep(4, StoredKind.FILE);
    assert.equal(manager.sent.length, 1);
    assert(store.isKept(4));
  });

  it('puts nothing in while it is to be empty', () => {
    const { manager, store } = make();
    store.keep(3, StoredKind.FILE);
    store.empty();
    manager.sent.length = 0;
    store.keep(4, StoredKind.PIDFD);
    assert(!store.keepNow(5, StoredKind.RECORD));
    assert.equal(manager.sent.length, 0);
    store.storeAgain();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['F0 3', 'P1 4'],
    );
  });
});
