/** A lockspace in etcd answers as one of files: the same calls to both, one after the other. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import type { LockDaemon } from '../../../src/lab/start.ts';
import { autocreate, type Call, lock, type Peer, shared, type WireError } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, SPACE } from './scene.ts';

const FILES = '/var/lib/libvirt/lockd/files';

describe('answers of a lockspace in etcd', function () {
  this.timeout(60_000);
  let scene: EtcdScene;
  let daemon: LockDaemon;
  /** Two owners. */
  let guests: readonly [Peer, Peer];
  let stranger: Peer;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
    scene = await EtcdScene.open();
    daemon = await scene.daemon();
    mkdirSync(daemon.lab.outside('/var/lib/libvirt/lockd'), { recursive: true });
    guests = [await scene.connect(daemon), await scene.connect(daemon)];
    stranger = await scene.visit(daemon);
  });

  after(async () => {
    await EtcdScene.closeAll();
  });

  type Step = (space: string) => readonly [Peer, Call];

  /** What a client can see of an answer, whatever the lockspace is called. */
  const shown = (answer: WireError | undefined, space: string): unknown =>
    answer && JSON.parse(JSON.stringify(answer).replaceAll(space, 'SPACE'));

  async function compare(steps: Readonly<Record<string, Step>>): Promise<unknown[]> {
    const answers: unknown[] = [];
    for (const [what, step] of Object.entries(steps)) {
      const [inFiles, inEtcd] = [step(FILES), step(SPACE)];
      const expected = shown(await inFiles[0].ask(inFiles[1]), FILES);
      assert.deepEqual(shown(await inEtcd[0].ask(inEtcd[1]), SPACE), expected, what);
      answers.push(expected);
    }
    return answers;
  }

  const by =
    (index: 0 | 1, call: (space: string) => Call): Step =>
    (space) => [guests[index], call(space)];

  it('are those of files: lockspaces', async () => {
    await compare({
      'of an unknown lockspace': by(0, (space) => lock.acquire(space, 'disk')),
      'a release there': by(0, (space) => lock.release(space, 'disk')),
      'a resource there': by(0, (space) => lock.createResource(space, 'disk')),
      'without an owner': (space) => [stranger, lock.newLockspace(space)],
      'a new one': by(0, (space) => lock.newLockspace(space)),
      'once more': by(0, (space) => lock.newLockspace(space)),
      'by the other procedure': by(0, (space) => lock.createLockspace(space)),
      'one below it': by(0, (space) => lock.createLockspace(`${space}/below`)),
    });
  });

  it('are those of files: exclusive locks', async () => {
    await compare({
      'a missing resource': by(0, (space) => lock.acquire(space, 'disk')),
      'its deletion': by(0, (space) => lock.deleteResource(space, 'disk')),
      'it is made': by(0, (space) => lock.createResource(space, 'disk')),
      'once more': by(1, (space) => lock.createResource(space, 'disk')),
      'it is acquired': by(0, (space) => lock.acquire(space, 'disk')),
      'by its owner again': by(0, (space) => lock.acquire(space, 'disk')),
      'by another': by(1, (space) => lock.acquire(space, 'disk')),
      'by another, shared': by(1, (space) => lock.acquire(space, 'disk', shared)),
      'made while it is held': by(1, (space) => lock.createResource(space, 'disk')),
      'deleted while it is held': by(1, (space) => lock.deleteResource(space, 'disk')),
      'released by another': by(1, (space) => lock.release(space, 'disk')),
      'under another name': by(1, (space) => lock.acquire(space, './disk')),
      released: by(0, (space) => lock.release(space, 'disk')),
      'released again': by(0, (space) => lock.release(space, 'disk')),
      'by the other now': by(1, (space) => lock.acquire(space, 'disk')),
      'and released': by(1, (space) => lock.release(space, 'disk')),
      deleted: by(1, (space) => lock.deleteResource(space, 'disk')),
      'deleted again': by(1, (space) => lock.deleteResource(space, 'disk')),
      'acquired without it': by(1, (space) => lock.acquire(space, 'disk')),
    });
  });

  it('are those of files: shared locks', async () => {
    await compare({
      'of a missing resource': by(0, (space) => lock.acquire(space, 'share', shared)),
      'made by it': by(0, (space) => lock.acquire(space, 'share', shared | autocreate)),
      'by another': by(1, (space) => lock.acquire(space, 'share', shared)),
      'by the first again': by(0, (space) => lock.acquire(space, 'share', shared)),
      exclusively: by(1, (space) => lock.acquire(space, 'share')),
      'under another name': by(1, (space) => lock.acquire(space, './/share', shared)),
      'released there': by(1, (space) => lock.release(space, './/share')),
      released: by(0, (space) => lock.release(space, 'share')),
      'released again': by(0, (space) => lock.release(space, 'share')),
      'released once too often': by(0, (space) => lock.release(space, 'share')),
      'exclusively, still': by(0, (space) => lock.acquire(space, 'share', autocreate)),
      'released by the last': by(1, (space) => lock.release(space, 'share')),
      'it is gone': by(0, (space) => lock.acquire(space, 'share')),
    });
    assert.deepEqual(scene.keys(), []);
  });

  it('are those of files: AUTOCREATE and odd names', async () => {
    await compare({
      'a resource that exists': by(0, (space) => lock.createResource(space, 'made')),
      acquired: by(0, (space) => lock.acquire(space, 'made', autocreate)),
      released: by(0, (space) => lock.release(space, 'made')),
      'it is gone': by(0, (space) => lock.acquire(space, 'made')),
      'an empty name': by(0, (space) => lock.acquire(space, '', autocreate)),
      'one made of it': by(0, (space) => lock.createResource(space, '')),
      'in a directory that is not there': by(0, (space) => lock.acquire(space, 'a/b', autocreate)),
      'made there': by(0, (space) => lock.createResource(space, 'a/b')),
      'deleted there': by(0, (space) => lock.deleteResource(space, 'a/b')),
      'a long name': by(0, (space) => lock.acquire(space, 'x'.repeat(256), autocreate)),
      'the longest': by(0, (space) => lock.acquire(space, 'x'.repeat(255), autocreate)),
      'given back': by(0, (space) => lock.release(space, 'x'.repeat(255))),
      'a long path': by(0, (space) => lock.acquire(space, 'x/'.repeat(3000), autocreate)),
      'made there, too': by(0, (space) => lock.createResource(space, 'x/'.repeat(3000))),
      bytes: by(0, (space) => lock.acquire(space, 'a b%\xff\n"', autocreate)),
      'to be given back': by(0, (space) => lock.release(space, 'a b%\xff\n"')),
      'flags that there are not': by(0, (space) => lock.acquire(space, 'made', 4)),
    });
    assert.deepEqual(scene.keys(), []);
  });

  it('are those of files: a restricted client, and one without an owner', async () => {
    const restricted = await scene.connect(daemon);
    await restricted.must(lock.restrict());
    await compare({
      restricted: (space) => [restricted, lock.acquire(space, 'disk', autocreate)],
      unregistered: (space) => [stranger, lock.acquire(space, 'disk', autocreate)],
    });
  });
});
