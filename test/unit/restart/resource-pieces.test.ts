import assert from 'node:assert/strict';
import { linkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { Release } from '../../../src/lockspace/release.ts';
import { closeUnlessHeld } from '../../../src/lockspace/files.ts';
import { posix } from '../../../src/posix/posix.ts';
import { captureState } from '../../../src/restart/capture.ts';
import { formatPieces } from '../../../src/restart/document.ts';
import { parseJson } from '../../../src/restart/parse.ts';
import { ResourcePieces } from '../../../src/restart/resource-pieces.ts';
import { makeDaemon } from '../support/daemon.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { World } from '../support/processes.ts';

const SHARED = 1;
const AUTOCREATE = 2;
const OWNER = 300;
const own = { restarts: 0, started: 0 };

describe('the text of resources for a restart', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let world: World;
  let daemon: Daemon;
  let pieces: ResourcePieces;

  beforeEach(() => {
    directory = temporaryDirectory();
    world = new World();
    world.begin(OWNER, 600);
    daemon = makeDaemon(world);
    for (let index = 0; index < 200; index++) acquire(`held ${index}`);
    daemon.lockspaces.add(at('lockspace'));
    pieces = new ResourcePieces(daemon);
    write();
  });

  afterEach(() => {
    pieces.end();
    for (const resource of [...daemon.lockspaces.resources()]) daemon.lockspaces.endResource(resource);
    directory.remove();
  });

  const at = (name: string): string => path.join(directory.path, name);

  function acquire(name: string, flags = AUTOCREATE, pid = 5_000_001): void {
    const hold = { owner: unknownOwner(pid), since: 0, client: 0 };
    daemon.lockspaces.acquire(daemon.lockspaces.default, at(name), modeOf(flags), hold);
  }

  function release(name: string): void {
    daemon.lockspaces.release(daemon.lockspaces.default, at(name), 5_000_001);
  }

  function endOwner(): void {
    const holds = [...daemon.lockspaces.resources()].flatMap((resource) => resource.holds);
    daemon.ownerReaper.end(holds.filter(({ owner }) => owner.pid === OWNER));
  }

  const write = (): Buffer[] => [...formatPieces(captureState(daemon, own, pieces))];

  /** The text written now, and how many of its pieces are reused. */
  function writeAgain(): { readonly names: number; readonly kept: number } {
    const before = new Set(write());
    const after = write();
    type Resources = { name: string }[];
    const order = (document: unknown): unknown => {
      const { defaultLockspace } = document as { defaultLockspace: { resources: Resources } };
      defaultLockspace.resources.sort((a, b) => (a.name < b.name ? -1 : 1));
      return document;
    };
    const read = order(parseJson(Buffer.concat(after))) as { defaultLockspace: { resources: Resources } };
    assert.deepEqual(read, order(parseJson(Buffer.concat([...formatPieces(captureState(daemon, own))]))));
    return { names: read.defaultLockspace.resources.length, kept: after.filter((piece) => before.has(piece)).length };
  }

  it('is kept where nothing has changed', () => {
    assert.deepEqual(writeAgain(), { names: 200, kept: 3 });
  });

  it('is made again of what has changed', () => {
    release('held 70');
    acquire('new');
    release('held 71');
    acquire('held 71');
    const { names, kept } = writeAgain();
    assert.equal(names, 200);
    assert.ok(kept >= 1);
    for (let index = 0; index < 70; index++) release(`held ${index}`);
    assert.equal(writeAgain().names, 130);
    for (let index = 75; index < 200; index++) release(`held ${index}`);
    assert.equal(writeAgain().names, 5);
  });

  it('is made again of what is being released', () => {
    daemon.remoteFiles.release = ({ file }, by) => {
      file.release = new Release(by);
      return true;
    };
    acquire('new');
    for (const name of ['held 70', 'new']) release(name);
    assert.equal(writeAgain().names, 201);
    const releasing = Buffer.concat(write())
      .toString('latin1')
      .match(/"x-releasing":5000001/g);
    assert.equal(releasing?.length, 2);
    for (const resource of [...daemon.lockspaces.resources()].filter(({ release: begun }) => begun !== null)) {
      resource.releaseFile(daemon.lockspaces.keeper);
      daemon.lockspaces.finishRelease(resource);
    }
    assert.equal(writeAgain().names, 199);
  });

  it('is made again, with a descriptor for each name, of a file that is shared', () => {
    writeFileSync(at('shared'), '');
    linkSync(at('shared'), at('alias'));
    acquire('shared', SHARED);
    acquire('alias', SHARED);
    assert.equal(writeAgain().names, 202);
    release('shared');
    assert.equal(writeAgain().names, 201);
  });

  it('is made again when the end of an owner has begun', () => {
    acquire('ending', 0 | AUTOCREATE, OWNER);
    write();
    endOwner();
    assert.match(Buffer.concat(write()).toString('latin1'), /"ending":1/);
    world.end(OWNER);
  });

  it('is made again when a file has one more descriptor', () => {
    const fd = posix.openInode(at('held 5'), 2);
    closeUnlessHeld(fd);
    assert.ok(Buffer.concat(write()).includes(`"x-spares":[${fd}]`));
    writeAgain();
  });

  it('is made again when the end of an owner began while the first was written', () => {
    acquire('ending', 0 | AUTOCREATE, OWNER);
    const others = new ResourcePieces(daemon);
    // As in slices: other things happen behind any piece.
    let began = false;
    for (const piece of formatPieces(captureState(daemon, own, others))) {
      if (began || !piece.includes('/ending"')) continue;
      endOwner();
      began = true;
    }
    assert.ok(began);
    const second = Buffer.concat([...formatPieces(captureState(daemon, own, others))]);
    assert.ok(second.includes('"ending":1'));
    others.end();
    world.end(OWNER);
  });

  it('is made again when a descriptor was made while the first was written', () => {
    const others = new ResourcePieces(daemon);
    let fd = -1;
    for (const piece of formatPieces(captureState(daemon, own, others))) {
      if (fd >= 0 || !piece.includes('/held 5"')) continue;
      fd = posix.openInode(at('held 5'), 2);
      closeUnlessHeld(fd);
    }
    const second = Buffer.concat([...formatPieces(captureState(daemon, own, others))]);
    assert.ok(second.includes(`"x-spares":[${fd}]`));
    others.end();
  });
});
