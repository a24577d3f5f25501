/** The lists of locks, lockspaces, clients and refusals: pages, filters, contents. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileState, HolderKind, type LockFilter, LocksFlag } from '../../../../../xdr/programs/inquire.ts';
import type { WrittenCheck } from '../../check.ts';
import { autocreate, lock, shared } from '../../../../lab/wire.ts';
import { all, inquireCall, inquireCheck, only, type Scene } from './inquirer.ts';
import { NOBODY } from '../daemon-scene.ts';

const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const uuidText = '00112233-4455-6677-8899-aabbccddeeff';

/** Two owners with locks, among which a filter must choose. */
async function fill(scene: Scene): Promise<{ wanted: string; space: string }> {
  const one = await scene.owner({ pid: NOBODY + 1, name: 'one', uuid });
  const two = await scene.owner({ pid: NOBODY + 2, name: 'two' });
  const space = join(scene.dir, 'space');
  await one.must(lock.createLockspace(space));
  const wanted = scene.file('wanted');
  await one.must(lock.acquire('', wanted));
  await two.must(lock.acquire('', scene.file('other')));
  await two.must(lock.acquire(space, 'lease', autocreate));
  return { wanted, space };
}

async function holdThree(scene: Scene): Promise<void> {
  const owner = await scene.owner();
  for (const name of ['a', 'b', 'c']) await owner.must(lock.acquire('', scene.file(name)));
}

function filterCheck(
  what: string,
  filter: (filled: { wanted: string; space: string }) => Partial<LockFilter>,
  names: readonly string[],
): WrittenCheck {
  return inquireCheck(`locks by ${what}`, 'a filter selects the locks that fit it, and no others.', async (scene) => {
    const filled = await fill(scene);
    const found = (await scene.inquirer.locks(filter(filled))).map(({ path }) => path.slice(scene.dir.length + 1));
    assert.deepEqual(found.sort(), [...names].sort());
  });
}

/** The state of a held file after a change of its path. */
function fileCheck(title: string, state: number, happen: (path: string) => void): WrittenCheck {
  return inquireCheck(title, 'the list says when the path no longer names the file that is held.', async (scene) => {
    const { disk } = await scene.held();
    happen(disk);
    assert.equal(only(await scene.inquirer.locks()).file, FileState.NOT_LOOKED);
    assert.equal(only(await scene.inquirer.locks({}, { flags: LocksFlag.LOOK_AT_FILES })).file, state);
  });
}

export const listChecks: readonly WrittenCheck[] = [
  inquireCheck('a lock is listed with all that is known of it', 'owner, mode, file, and since when.', async (scene) => {
    const before = Date.now();
    const { disk } = await scene.held(0, { pid: NOBODY, name: 'guest', uuid, id: 7 });
    const found = only(await scene.inquirer.locks());
    const { ino, dev } = statSync(disk);
    assert.deepEqual(
      [found.lockspace, found.name, found.path, found.flags, found.inode, found.device, found.holdCount],
      ['', disk, disk, 0, BigInt(ino), dev, 1],
    );
    const hold = only(found.holds);
    assert.deepEqual(hold.owner, { pid: NOBODY, id: 7, name: 'guest', uuid: uuidText, identity: 0 });
    assert.ok(hold.since >= before && hold.since <= Date.now());
    assert.ok(hold.client > 0);
  }),
  inquireCheck('a shared lock is listed with every hold', 'in the order in which they came.', async (scene) => {
    const disk = scene.file('disk');
    for (const number of [3, 1, 2]) {
      await (await scene.owner({ pid: NOBODY + number })).must(lock.acquire('', disk, shared));
    }
    const { flags, holds, holdCount } = only(await scene.inquirer.locks());
    assert.deepEqual([flags, holdCount], [shared, 3]);
    assert.deepEqual(
      holds.map(({ owner }) => owner.pid - NOBODY),
      [3, 1, 2],
    );
  }),
  inquireCheck('a released lock is listed no more', 'the list contains present locks only.', async (scene) => {
    const { disk, holder: owner } = await scene.held();
    await owner.must(lock.release('', disk));
    assert.deepEqual(await scene.inquirer.locks(), []);
  }),
  filterCheck('nothing', () => ({}), ['wanted', 'other', 'space/lease']),
  filterCheck('lockspace', ({ space }) => ({ lockspace: space }), ['space/lease']),
  filterCheck('the default lockspace', () => ({ lockspace: '' }), ['wanted', 'other']),
  filterCheck('resource', () => ({ resource: 'lease' }), ['space/lease']),
  filterCheck('path', ({ wanted }) => ({ path: wanted }), ['wanted']),
  filterCheck("owner's pid", () => ({ pid: NOBODY + 2 }), ['other', 'space/lease']),
  filterCheck("owner's UUID", () => ({ uuid: uuidText }), ['wanted']),
  filterCheck("owner's name", () => ({ owner: 'two' }), ['other', 'space/lease']),
  filterCheck('two things at once', () => ({ owner: 'two', lockspace: '' }), ['other']),
  filterCheck('what nobody has', () => ({ owner: 'three' }), []),
  inquireCheck(
    'a disk is found by its path in an indirect lockspace',
    'where its name is the SHA-256 of the path.',
    async (scene) => {
      const space = join(scene.dir, 'disks');
      const owner = await scene.owner();
      const disk = '/var/lib/libvirt/images/a.img';
      const name = createHash('sha256').update(disk).digest('hex');
      await owner.must(lock.createLockspace(space));
      await owner.must(lock.acquire(space, name, autocreate));
      assert.equal(only(await scene.inquirer.locks({ path: disk })).name, name);
    },
  ),
  fileCheck('a held file that is there is reported as the same', FileState.SAME, () => undefined),
  fileCheck('a held file that was removed is reported as gone', FileState.GONE, (path) => rmSync(path)),
  fileCheck('a held file that was replaced is reported as replaced', FileState.REPLACED, (path) => {
    renameSync(path, `${path}.old`);
    writeFileSync(path, '');
  }),
  inquireCheck(
    'a list comes in pages',
    'with at most as many entries as requested, and every lock exactly once.',
    async (scene) => {
      const owner = await scene.owner();
      const disks = Array.from({ length: 7 }, (_, index) => scene.file(`disk${index}`));
      for (const disk of disks) await owner.must(lock.acquire('', disk));
      const found = await scene.inquirer.locks({}, { limit: 2 });
      assert.deepEqual(found.map(({ name }) => name).sort(), disks.sort());
    },
  ),
  inquireCheck(
    'a cursor is used once',
    'the same page is refused the second time; a new list is not.',
    async (scene) => {
      await holdThree(scene);
      const args = { filter: all, limit: 1, flags: 0 };
      const { next } = await scene.inquirer.ask('locks', { ...args, cursor: 0n });
      await scene.inquirer.ask('locks', { ...args, cursor: next });
      assert.equal((await scene.inquirer.peer.peer.ask(inquireCall('locks', { ...args, cursor: next })))?.code, 8);
      assert.equal((await scene.inquirer.locks()).length, 3);
    },
  ),
  inquireCheck('a cursor is of its connection', 'no other connection can use it.', async (scene) => {
    await holdThree(scene);
    const args = { filter: all, limit: 1, flags: 0 };
    const { next } = await scene.inquirer.ask('locks', { ...args, cursor: 0n });
    const { peer } = await scene.another();
    assert.equal((await peer.peer.ask(inquireCall('locks', { ...args, cursor: next })))?.code, 8);
  }),
  inquireCheck(
    'a cursor is of its list',
    'that of a list of locks is refused for a list of lockspaces.',
    async (scene) => {
      await holdThree(scene);
      const { next } = await scene.inquirer.ask('locks', { filter: all, cursor: 0n, limit: 1, flags: 0 });
      const call = inquireCall('lockspaces', { cursor: next, limit: 0, flags: 0 });
      assert.equal((await scene.inquirer.peer.peer.ask(call))?.code, 8);
    },
  ),
  inquireCheck('cursors that nobody got are refused', 'whatever their number.', async ({ inquirer }) => {
    for (const cursor of [1n, 99n, 0xffff_ffff_ffff_ffffn]) {
      const call = inquireCall('clients', { cursor, limit: 0, flags: 0 });
      assert.equal((await inquirer.peer.ask(call))?.code, 8);
    }
  }),
  inquireCheck(
    'lockspaces are listed',
    'the default one and those that clients made, with their numbers of locks.',
    async (scene) => {
      const { space } = await fill(scene);
      const { lockspaces, next } = await scene.inquirer.ask('lockspaces', { cursor: 0n, limit: 0, flags: 0 });
      assert.equal(next, 0n);
      assert.deepEqual(
        lockspaces.map(({ directory, locks }) => [directory, locks]),
        [
          ['', 2],
          [space, 1],
        ],
      );
    },
  ),
  inquireCheck('clients are listed', 'with process, registered owner, and number of locks.', async (scene) => {
    const owner = await scene.owner({ pid: NOBODY + 4, name: 'guest' });
    await owner.must(lock.acquire('', scene.file('disk')));
    await owner.must(lock.restrict());
    const { clients } = await scene.inquirer.ask('clients', { cursor: 0n, limit: 0, flags: 0 });
    const found = only(clients.filter(({ owner: registered }) => registered?.pid === NOBODY + 4));
    assert.deepEqual(
      [found.server, found.pid, found.uid, found.restricted, found.isOwner, found.locks, found.owner?.name],
      ['virtlockd', process.pid, process.geteuid?.(), true, false, 1, 'guest'],
    );
    assert.ok(clients.some(({ server, pid }) => server === 'admin' && pid === process.pid));
  }),
  inquireCheck('refusals are remembered', 'with the reason and the holder.', async (scene) => {
    const disk = scene.file('disk');
    await (await scene.owner({ pid: NOBODY + 1, name: 'holder' })).must(lock.acquire('', disk));
    await (await scene.owner({ pid: NOBODY + 2, name: 'late' })).ask(lock.acquire('', disk));
    const { refusals } = await scene.inquirer.ask('refusals', { after: 0, flags: 0 });
    const { code, name, owner, holder, sequence } = only(refusals);
    assert.deepEqual(
      [code, name, owner.name, holder?.kind, holder?.owner.name],
      [87, disk, 'late', HolderKind.OWNER, 'holder'],
    );
    assert.deepEqual((await scene.inquirer.ask('refusals', { after: sequence, flags: 0 })).refusals, []);
  }),
];
