import assert from 'node:assert/strict';
import { StoredKind } from '../../../src/store/names.ts';
import { FilesInFlight } from '../../../src/store/in-flight.ts';
import { DescriptorStore, type ManagerLink } from '../../../src/store/store.ts';
import { flight } from '../support/flight.ts';

const EAGAIN = -11;
const EBADF = -9;
const ECONNREFUSED = -111;

/** A manager that records what the store sends, and can refuse it. */
class Manager implements ManagerLink {
  readonly sent: string[] = [];
  readonly closed: number[] = [];
  /** The status that `send` returns. */
  status = 0;
  /** How many datagrams fit into its queue. */
  room = Infinity;
  connections = 0;
  waited = 0;
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
  close(fd: number): void {
    this.closed.push(fd);
  }
  setTimeout(callback: () => void): void {
    this.due.push(callback);
  }
  /** Runs the due timers. */
  pass(): void {
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
    store.keep(5, StoredKind.ADMIN_CLIENT);
    store.keep(5, StoredKind.ADMIN_CLIENT);
    assert(store.isKept(5));
    store.drop(5);
    store.drop(5);
    store.keep(5, StoredKind.ADMIN_CLIENT);
    assert.deepEqual(manager.sent, [
      'FDSTORE=1 FDPOLL=0 FDNAME=A0 5',
      'FDSTOREREMOVE=1 FDNAME=A0 -1',
      'FDSTORE=1 FDPOLL=0 FDNAME=A1 5',
    ]);
    assert.equal(store.count, 1);
  });

  it('names descriptors that it does not store, and ignores those beyond the table', () => {
    const { manager, store } = make();
    assert.notEqual(store.nameFor(5, StoredKind.ADMIN_CLIENT), 0);
    assert(!store.isKept(5));
    assert.equal(store.keep(64, StoredKind.ADMIN_CLIENT), 0);
    store.drop(5);
    assert.deepEqual(manager.sent, []);
  });

  it('does not wait for a full queue, and sends the rest later, in order', () => {
    const { manager, store } = make();
    manager.room = 1;
    for (const fd of [3, 4, 5, 6]) store.keep(fd, StoredKind.LOCK_CLIENT);
    store.drop(3);
    // A descriptor that was never sent need not be removed.
    store.drop(5);
    assert.equal(manager.waited, 0);
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
    store.keep(3, StoredKind.ADMIN_CLIENT);
    manager.status = 0;
    manager.pass();
    assert.equal(manager.connections, 2);
    assert(store.isKept(3));
  });

  it("keeps the previous process's names, and gives later ones to new descriptors", () => {
    const { manager, words, store } = make();
    store.keep(3, StoredKind.ADMIN_CLIENT);
    store.nameFor(4, StoredKind.ADMIN_CLIENT);
    const next = new DescriptorStore('/run/notify', words, manager);
    assert(next.isKept(3));
    assert(!next.isKept(4));
    assert.equal(next.count, 1);
    next.keep(9, StoredKind.ADMIN_CLIENT);
    assert.equal(manager.sent.at(-1), 'FDSTORE=1 FDPOLL=0 FDNAME=A2 9');
  });

  it('removes all descriptors and stores them again', () => {
    const { manager, store } = make();
    for (const fd of [3, 4]) store.keep(fd, StoredKind.ADMIN_CLIENT);
    manager.sent.length = 0;
    store.empty();
    store.storeAgain();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['A0 -1', 'A1 -1', 'A0 3', 'A1 4'],
    );
  });

  it('stores clients last when it stores all again, and none that is left out', () => {
    const { manager, store } = make();
    for (const fd of [3, 4]) store.keep(fd, StoredKind.LOCK_CLIENT);
    store.keep(5, StoredKind.RECORD);
    store.leaveOut(4);
    assert.deepEqual([store.count, store.isKept(4), manager.sent.at(-1)], [2, false, 'FDSTOREREMOVE=1 FDNAME=C1 -1']);
    manager.sent.length = 0;
    store.storeAgain();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['R2 5', 'C0 3'],
    );
    // It has its name as before.
    store.keep(4, StoredKind.LOCK_CLIENT);
    assert.equal(manager.sent.at(-1), 'FDSTORE=1 FDPOLL=0 FDNAME=C1 4');
  });

  it('takes out what was there before it could not be put in again', () => {
    const { manager, store } = make();
    for (const fd of [3, 4]) store.keep(fd, StoredKind.ADMIN_CLIENT);
    manager.sent.length = 0;
    manager.room = 0;
    store.storeAgain();
    store.drop(4);
    manager.room = Infinity;
    manager.pass();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['A0 3', 'A1 -1'],
    );
  });

  it('is not kept from anything by a descriptor that is closed', () => {
    const { manager, store } = make();
    manager.status = EBADF;
    store.keep(3, StoredKind.ADMIN_CLIENT);
    manager.status = 0;
    store.keep(4, StoredKind.ADMIN_CLIENT);
    assert.equal(manager.sent.length, 1);
    assert(store.isKept(4));
  });

  it('keeps files in their queue, of which it stores one descriptor', () => {
    const { manager, store, words } = make();
    const files = new FilesInFlight(9, [], flight);
    store.keepFilesBy(files);
    store.keep(3, StoredKind.FILE);
    store.keep(4, StoredKind.ADMIN_CLIENT);
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['Q0 9', 'A2 4'],
    );
    assert(store.isKept(3));
    assert.equal(store.count, 2);
    assert.equal(store.unsentFiles, 0);
    assert.deepEqual([...new DescriptorStore('/run/notify', words, manager).keptFiles()], [[store.nameOf(3), 3]]);
    manager.sent.length = 0;
    store.empty();
    store.storeAgain();
    store.drop(3);
    assert(!store.isKept(3));
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['A2 -1', 'Q0 -1', 'Q0 9', 'A2 4'],
    );
  });

  it('has kept no file before the queue is sent to the manager', () => {
    const { manager, store } = make();
    manager.room = 0;
    store.keepFilesBy(new FilesInFlight(9, [], flight));
    store.keep(3, StoredKind.FILE);
    store.keep(5, StoredKind.FILE);
    assert.equal(store.unsentFiles, 2);
    manager.room = Infinity;
    manager.pass();
    assert.equal(store.unsentFiles, 0);
  });

  it('puts nothing in while it is to be empty', () => {
    const { manager, store } = make();
    store.keep(3, StoredKind.ADMIN_CLIENT);
    store.empty();
    manager.sent.length = 0;
    store.keep(4, StoredKind.PIDFD);
    assert(!store.keepNow(5, StoredKind.RECORD, 0));
    assert.equal(manager.sent.length, 0);
    store.storeAgain();
    assert.deepEqual(
      manager.sent.map((text) => text.split('FDNAME=')[1]),
      ['P1 4', 'A0 3'],
    );
  });

  it('removes each descriptor once at its end, and lets the queue of files go', () => {
    const { manager, store } = make();
    const files = new FilesInFlight(9, [], flight);
    store.keepFilesBy(files);
    store.keep(3, StoredKind.FILE);
    store.keep(4, StoredKind.RECORD);
    manager.sent.length = 0;
    store.end();
    assert.deepEqual(manager.sent.map((text) => text.split('FDNAME=')[1]).sort(), ['Q0 -1', 'R2 -1']);
    assert.deepEqual(manager.closed, [9]);
    assert.equal(files.count, 0);
    assert.equal(store.unsentFiles, 0);
  });
});
