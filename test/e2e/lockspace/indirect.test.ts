import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { indirectName, makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { libvirtGeneration, underTest } from '../under-test.ts';

describe(`an indirect lockspace two hosts share, lock daemon: ${underTest}`, function () {
  this.timeout(60_000);
  let storage: string;
  let here: LockDaemon;
  let there: LockDaemon;
  let libvirtd: Libvirtd;

  before(async function () {
    skipIf(this, missingDaemon(underTest), missingGuests(libvirtGeneration));
    storage = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-storage-'));
    mkdirSync(join(storage, 'locks'), { mode: 0o700 });
    const [one, two] = await Promise.all([
      openLab(libvirtGeneration, [storage]),
      openLab(libvirtGeneration, [storage]),
    ]);
    here = await startDaemon(underTest, { lab: one });
    there = await startDaemon(underTest, { lab: two });
    libvirtd = new Libvirtd(one, { fileLockspace: join(storage, 'locks') });
    await libvirtd.start();
  });

  after(async function () {
    this.timeout(60_000);
    await (libvirtd as Libvirtd | undefined)?.stop();
    for (const daemon of [here, there] as (LockDaemon | undefined)[]) {
      await daemon?.stop();
      await daemon?.lab.close();
    }
    if ((storage as string | undefined) !== undefined) rmSync(storage, { recursive: true, force: true });
  });

  it('locks a file named by the SHA-256 of the path, and removes it at the end', async () => {
    const image = makeImage(storage, 'free.img');
    const file = join(storage, 'locks', indirectName(image));
    await libvirtd.run({ name: 'free', disks: [{ image }] });
    assert.equal(lockOn(here.pid, file), 'WRITE 0 0');
    assert.equal(lockOn(here.pid, image), undefined);
    await libvirtd.must('destroy', 'free');
    await eventually('the lock file is gone', () => !existsSync(file), 5_000);
  });

  it('refuses a guest whose lock file another host has locked', async () => {
    const image = makeImage(storage, 'taken.img');
    const name = indirectName(image);
    const other = await there.connect();
    await other.must(lock.register({ pid: 5_000_000 }));
    await other.must(lock.createLockspace(join(storage, 'locks')));
    await other.must(lock.acquire(join(storage, 'locks'), name, autocreate));
    const refused = await libvirtd.create({ name: 'taken', disks: [{ image }] });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`^error: resource busy: Lockspace resource '${name}' is locked$`, 'm'));
    assert.deepEqual(await libvirtd.guests(), []);
    await other.must(lock.release(join(storage, 'locks'), name));
    other.close();
    await libvirtd.run({ name: 'taken', disks: [{ image }] });
    assert.equal(lockOn(here.pid, join(storage, 'locks', name)), 'WRITE 0 0');
    await libvirtd.must('destroy', 'taken');
  });
});
