import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { adoptFile, deferClose } from '../../../src/lockspace/files.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { resource } from '../../../src/lockspace/state.ts';
import { posix } from '../../../src/posix/posix.ts';
import { captureState } from '../../../src/restart/capture.ts';
import type { OwnState } from '../../../src/daemon/state.ts';
import { descriptorsOf, formatPieces } from '../../../src/restart/document.ts';
import { makeDaemon } from '../support/daemon.ts';
import { temporaryDirectory } from '../support/locks.ts';

const SHARED = 1;
const HOLD_KEYS = ['id', 'name', 'uuid', 'since', 'client', 'start', 'foreign', 'ending', 'unanswered'];
const own = { restarts: 0, started: 0, pidFile: 2020, epoll: 2021 };

describe('the capture of the state', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let daemon: Daemon;

  beforeEach(() => {
    directory = temporaryDirectory();
    // Never started, so that descriptors may be mere numbers.
    daemon = makeDaemon();
    daemon.lockServer.addListener({ fd: 2003, path: null, unlink: false });
    daemon.adminServer.addListener({ fd: 2004, path: null, unlink: false });
  });

  afterEach(() => {
    for (const resource of [...daemon.lockspaces.resources()]) daemon.lockspaces.endResource(resource);
    directory.remove();
  });

  /** Holds a file under some names, as after a restart; its descriptors. */
  function hold(name: string, ...names: readonly string[]): number[] {
    const file = path.join(directory.path, name);
    writeFileSync(file, '');
    const fd = posix.openInode(file, 2);
    const spare = posix.duplicate(fd);
    for (const each of names) {
      const adopted = adoptFile(fd, true);
      assert.ok(adopted !== null);
      const { lockspaces } = daemon;
      const holds = [{ owner: unknownOwner(5_000_001), since: 0, client: 0 }];
      lockspaces.restoreResource(lockspaces.default, each, file, modeOf(SHARED), adopted, holds);
      deferClose(adopted, spare);
    }
    return [fd, spare];
  }

  /** The descriptors of a document: collected while it is written, and by descriptorsOf. */
  function named(own: OwnState): number[] {
    const written = new Set<number>();
    for (const piece of formatPieces(captureState(daemon, own), written)) assert.ok(piece.length > 0);
    assert.deepEqual(new Set(descriptorsOf(captureState(daemon, own))), written);
    return sorted(written);
  }

  const sorted = (descriptors: Iterable<number>): number[] => [...descriptors].sort((a, b) => a - b);

  it('tells of subscriptions as they are, however often it is asked', () => {
    const { context } = daemon.adminServer.adopt(2014, 1, { pid: 1, uid: 0, gid: 0 }, 0);
    const captured = (): (boolean | undefined)[] =>
      [...(captureState(daemon, own).adminServer?.clients ?? [])].map((client) => client['x-subscribed']);
    for (const subscribed of [false, true, false]) {
      context.subscribed = subscribed;
      for (let i = 0; i < 2; i++) assert.deepEqual(captured(), [subscribed ? true : undefined]);
    }
  });

  it('writes resources with their keys in the order of the description', () => {
    hold('a', 'one', 'two');
    const [lockspace] = captureState(daemon, own).lockspaces;
    for (const state of lockspace?.resources ?? []) {
      const { shape } = resource;
      assert.ok(shape.kind === 'object');
      assert.deepEqual(
        Object.keys(state),
        shape.fields.map(({ key }) => key),
      );
      assert.deepEqual(Object.keys(state['x-holds']?.[0] ?? {}), HOLD_KEYS);
    }
  });

  it('names the descriptors that outlive exec: those of listeners, clients, files with their spares, pid file and epoll, each once', () => {
    const peer = { pid: 1, uid: 0, gid: 0 };
    daemon.lockServer.adopt(2013, 1, peer, 0);
    daemon.adminServer.adopt(2014, 1, peer, 0);
    const files = [...hold('a', 'one'), ...hold('b', 'two', 'three')];
    const wanted = [2003, 2004, 2013, 2014, ...files, 2020, 2021];
    assert.deepEqual(named(own), sorted(wanted));
  });

  it('names the descriptors that outlive exec: without a pid file and an epoll where there is none', () => {
    assert.deepEqual(named({ restarts: 0, started: 0 }), [2003, 2004]);
  });
});
