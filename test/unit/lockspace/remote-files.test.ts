import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { adoptRemote, HeldFile, type LockFailure, registerRemote, unregister } from '../../../src/lockspace/files.ts';
import { Lockspaces, NO_LOCK_RECORDER } from '../../../src/lockspace/lockspaces.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { type Hold, NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { Release } from '../../../src/lockspace/release.ts';
import { RemoteCalls } from '../../../src/lockspace/remote-calls.ts';
import { lossText, RemoteFiles } from '../../../src/lockspace/remote-files.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { FileType, inodeKey, posix } from '../../../src/posix/posix.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { Asker, Turns } from '../../../src/storage/asker.ts';
import type { Helper } from '../../../src/storage/helper.ts';
import type { HolderNote } from '../../../src/storage/holder-note.ts';
import { Operation } from '../../../src/storage/messages.ts';
import type { Routes } from '../../../src/proc/route.ts';
import { Storages } from '../../../src/storage/storages.ts';
import { OtherProcess, temporaryDirectory } from '../support/locks.ts';
import { poller } from '../support/poller.ts';

const host = { changed: (): void => undefined, closing: (): void => undefined, endOwners: (): void => undefined };

/** A file that helper 1 had locked, and a daemon whose helpers find that a process has the lock: see BUSY_HELPER. */
function lockedBefore(disk: string, rival: number, routes?: Routes) {
  const helpers: ChildProcess[] = [];
  const storages = new Storages(poller, routes, (socket, _place, onEnd) => {
    const args = ['-c', BUSY_HELPER, disk, String(rival)];
    const child = spawn('/usr/bin/python3', args, { stdio: ['ignore', 'inherit', 'inherit', socket] });
    helpers.push(child.on('exit', onEnd));
  });
  const lockspaces = new Lockspaces(dialectOf(9_000_000));
  const ended: number[] = [];
  const files = new RemoteFiles(storages, lockspaces, {
    ...host,
    endOwners: (holds) => ended.push(...holds.map((hold) => hold.owner.pid)),
  });
  lockspaces.remoteFiles = files;
  const { dev, ino } = statSync(disk);
  const file = adoptRemote(inodeKey({ device: dev, inode: ino }), false, { helper: 1, file: 1 }, 0);
  const end = (): void => {
    for (const child of helpers) child.kill('SIGKILL');
    for (const { socket } of storages.state) {
      poller.unwatch(socket);
      posix.close(socket);
    }
    unregister(file);
  };
  return { helpers, storages, lockspaces, files, ended, file, end };
}

describe('a file that a storage helper keeps', () => {
  const node = (inode: number, blockDevice: number) => ({
    device: 90_000,
    inode,
    type: FileType.BLOCK,
    blockDevice,
    links: 1,
  });

  it('may be any block device while its record does not say it', () => {
    const adopted = adoptRemote('90000:0:1', false, { helper: 1, file: 1 });
    const refused = registerRemote(node(2, 0x700), false, { helper: 1, file: 2 });
    assert.ok(!(refused instanceof HeldFile) && refused.kind === 'busy' && refused.file === adopted);
    const other = registerRemote(node(3, 0), false, { helper: 1, file: 3 });
    assert.ok(other instanceof HeldFile);
    unregister(adopted);
    const granted = registerRemote(node(2, 0x700), false, { helper: 1, file: 2 });
    assert.ok(granted instanceof HeldFile);
    for (const file of [other, granted]) unregister(file);
  });

  it('stays held under its other name when the daemon has died while it released one', () => {
    const lockspaces = new Lockspaces(dialectOf(9_000_000));
    const files = new RemoteFiles(new Storages(poller), lockspaces, host);
    lockspaces.remoteFiles = files;
    const restore = (name: string, release: Release | null): HeldFile => {
      const holds = release === null ? [{ owner: unknownOwner(1), since: 0, client: 0 }] : [];
      const file = adoptRemote('90000:0:1', true, { helper: 1, file: 1 }, 0);
      lockspaces.restoreResource(lockspaces.default, name, name, modeOf(1), file, holds, release);
      return file;
    };
    restore('/one', new Release(0, true));
    const file = restore('/two', null);
    files.attach();
    assert.deepEqual(
      Array.from(lockspaces.resources(), ({ name }) => name),
      ['/two'],
    );
    assert.deepEqual([file.references, file.release, files.unreleased], [1, null, []]);
    unregister(file);
  });

  it('answers the RELEASE that a restart has carried, though another call for the path has its turn by then', () => {
    const lockspaces = new Lockspaces(dialectOf(9_000_000));
    const storages = new Storages(poller);
    lockspaces.remoteFiles = new RemoteFiles(storages, lockspaces, host);
    const turns = new Turns();
    const release = new Release(1, true);
    const file = adoptRemote('90000:0:1', true, { helper: 1, file: 1 }, 0);
    const { default: unnamed } = lockspaces;
    lockspaces.restoreResource(unnamed, '/one', '/one', modeOf(0), file, [], release);
    const [resource] = lockspaces.resources();
    assert.ok(resource !== undefined);

    // By the file's other name: its lockspace has no such resource, so it asks the storage, which is yet to answer.
    const other = new Asker(turns);
    const askStorage = (): never => {
      other.enter('/one');
      return other.awaitEnding({ wait: () => () => undefined });
    };
    assert.throws(() => other.run(askStorage), Waiting);
    const calls = new RemoteCalls(storages, new Asker(turns));
    const repeat = (): void => {
      calls.run(() => {
        lockspaces.release(unnamed, '/one', 1, calls);
      });
    };
    let isDue = false;
    assert.throws(repeat, (error) => {
      assert.ok(error instanceof Waiting);
      error.begin(() => (isDue = true));
      return true;
    });
    unregister(file);
    lockspaces.finishRelease(resource);
    assert.ok(isDue);
    repeat();
  });

  it('is recorded as released once when its helper is found missing', async () => {
    const lockspaces = new Lockspaces(dialectOf(9_000_000));
    const files = new RemoteFiles(new Storages(poller), lockspaces, host);
    lockspaces.remoteFiles = files;
    let released = 0;
    lockspaces.recorder = { ...NO_LOCK_RECORDER, resourceReleased: () => (released += 1) };
    const file = adoptRemote('90000:0:1', true, { helper: 1, file: 1 }, 0);
    const holds = [{ owner: unknownOwner(1), since: 0, client: 0 }];
    lockspaces.restoreResource(lockspaces.default, '/one', '/one', modeOf(1), file, holds);
    lockspaces.release(lockspaces.default, '/one', 1);
    files.attach();
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    assert.deepEqual([released, lockspaces.count], [1, 0]);
  });

  it('is said to be lost for so many owners, and how many more', () => {
    const lockspaces = new Lockspaces(dialectOf(9_000_000));
    const holdsOf = (count: number): Hold[] =>
      Array.from({ length: count }, (_, index) => ({ owner: unknownOwner(index + 1), since: 0, client: 0 }));
    const ownersIn = (count: number): string | undefined => {
      const file = adoptRemote('90000:0:1', true, { helper: 1, file: 1 }, 0);
      lockspaces.restoreResource(lockspaces.default, '/one', '/one', modeOf(1), file, holdsOf(count));
      const [resource] = lockspaces.resources();
      assert.ok(resource !== undefined);
      unregister(file);
      return /owners (.*):/.exec(lossText(resource))?.[1];
    };
    assert.equal(ownersIn(5), '1 (), 2 (), 3 (), 4 (), 5 ()');
    assert.equal(ownersIn(40_000), '1 (), 2 (), 3 (), 4 (), 5 () and 39995 more');
  });

  // Whom the file system names for the lock of a helper that was killed, and whether that proves that the owner has lost it.
  for (const [rival, isProof] of [
    ['a process that has the file open', true],
    ['a process that has not opened it', false],
    ['the owner itself', false],
    ['the next helper', false],
    ['nobody', false],
  ] as const) {
    it(`is lost when its helper was killed and ${rival} has its lock by then: ${isProof ? 'yes' : 'no'}`, async () => {
      const directory = temporaryDirectory();
      const disk = path.join(directory.path, 'disk');
      writeFileSync(disk, '');
      const [holder, stranger] = [await OtherProcess.lock(disk, 'WRITE'), spawn('sleep', ['100'])];
      const pids = {
        'a process that has the file open': holder.pid,
        'a process that has not opened it': stranger.pid ?? 0,
        'the owner itself': holder.pid,
        'the next helper': 0,
        nobody: -1,
      };
      const owner = unknownOwner(rival === 'the owner itself' ? holder.pid : 4_200_000);
      const { helpers, storages, lockspaces, ended, file, end } = lockedBefore(disk, pids[rival]);
      lockspaces.restoreResource(lockspaces.default, disk, disk, modeOf(0), file, [{ owner, since: 0, client: 0 }]);
      const helper = storages.helperFor({ key: 'fs', name: '/' });
      const ask = async (of: Helper): Promise<unknown> =>
        new Promise((resolve) => of.call({ operation: Operation.STAT, path: disk }, 0, resolve));
      await ask(helper);
      assert.equal(helper.id, 1);
      helpers[0]?.kill('SIGKILL');
      await eventually('it is found missing', () => helper.isDead);
      // It is answered behind the acquire.
      await ask(storages.helperFor(helper.place));
      // What follows from that takes turns of the event loop.
      if (isProof) await eventually('the owner is ended', () => ended.length > 0);
      else for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
      assert.deepEqual([ended, file.locked], [isProof ? [owner.pid] : [], false]);
      end();
      stranger.kill('SIGKILL');
      await holder.end();
      directory.remove();
    });
  }
});

describe('a file whose lock went with its helper before a restart', () => {
  // What the next program knows of the helper that had the lock, and whom the file system names for it.
  for (const [title, knows, isOfHelper, isProof] of [
    ['is taken from its owner by a process that has the file open', true, false, true],
    ['is not, where it is not known which process the helper was', false, false, false],
    ['is not, where that process has the number that the helper had', true, true, false],
  ] as const) {
    it(title, async () => {
      const directory = temporaryDirectory();
      const disk = path.join(directory.path, 'disk');
      writeFileSync(disk, '');
      const holder = await OtherProcess.lock(disk, 'WRITE');
      const place = { key: 'fs', name: '/' };
      const routes = { mayHang: true, placeOf: () => place, forget: () => undefined } as unknown as Routes;
      const { storages, lockspaces, files, ended, file, end } = lockedBefore(disk, holder.pid, routes);
      file.locked = false;
      const owner = unknownOwner(4_200_000);
      lockspaces.restoreResource(lockspaces.default, disk, disk, modeOf(0), file, [{ owner, since: 0, client: 0 }]);
      if (knows) storages.restoreEnded([{ id: 1, pid: isOfHelper ? holder.pid : 4_200_001 }]);
      files.attach();
      assert.deepEqual(files.lost.length, 1);
      await new Promise((resolve) => {
        // It is answered behind the acquire.
        storages.helperFor(place).call({ operation: Operation.STAT, path: disk }, 0, resolve);
      });
      // What follows from that takes turns of the event loop.
      if (isProof) await eventually('the owner is ended', () => ended.length > 0);
      else for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
      assert.deepEqual([ended, file.locked], [isProof ? [owner.pid] : [], false]);
      end();
      await holder.end();
      directory.remove();
    });
  }
});

describe('a storage helper of a release that knows no notes', () => {
  it('locks files without a note', async () => {
    const helpers: ChildProcess[] = [];
    const storages = new Storages(poller, undefined, (socket, _place, onEnd) => {
      const child = spawn('/usr/bin/python3', ['-c', OLD_HELPER], { stdio: ['ignore', 'inherit', 'inherit', socket] });
      helpers.push(child.on('exit', onEnd));
    });
    const calls = new RemoteCalls(storages, new Asker(new Turns()));
    const note: HolderNote = {
      host: 'node7',
      hostUuid: null,
      name: 'db',
      uuid: NIL_UUID,
      pid: 7,
      shared: false,
      since: 0,
      owners: 1,
    };
    const place = { key: 'fs', name: '/' };
    let file: HeldFile | LockFailure | undefined;
    for (let waits = 0; file === undefined; waits++) {
      assert.ok(waits <= 2, 'it waits for the lock, and for the note');
      try {
        file = calls.run(() => calls.acquire(place, '/space/lease', modeOf(2), 7, note));
      } catch (error) {
        if (!(error instanceof Waiting)) throw error;
        await new Promise<void>((resolve) => error.begin(resolve));
      }
    }
    assert.ok(file instanceof HeldFile);
    unregister(file);
    for (const child of helpers) child.kill('SIGKILL');
    for (const { socket } of storages.state) {
      poller.unwatch(socket);
      posix.close(socket);
    }
  });
});

/** Locks any file, and knows no other operation. */
const OLD_HELPER = `import os, socket, struct
link = socket.socket(fileno=3)
while True:
    packet = link.recv(8192)
    if not packet: break
    operation, _, serial = struct.unpack_from('<IIQ', packet)
    status, flags = (0, 32 | 64) if operation == 2 else (-95, 64)
    link.send(struct.pack('<IiQQQQIIQiI', operation, status, serial, 1, 90001, 5, 0o100000, 1, 0, os.getpid(), flags))
`;

/** A helper for which the file is locked, by the process with the pid; 0: by itself. */
const BUSY_HELPER = `import os, socket, struct, sys
link = socket.socket(fileno=3)
file, rival = os.stat(sys.argv[1]), int(sys.argv[2]) or os.getpid()
while True:
    packet = link.recv(8192)
    if not packet: break
    operation, _, serial = struct.unpack_from('<IIQ', packet)
    status, process, flags = (-11, rival, 4 | 32) if operation == 2 else (0, os.getpid(), 64)
    link.send(struct.pack('<IiQQQQIIQiI', operation, status, serial, 0, file.st_dev, file.st_ino, 0o100000, 1, 0, process, flags))
`;
