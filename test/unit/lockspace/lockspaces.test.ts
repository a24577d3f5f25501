import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { Budget } from '../../../src/lockspace/budget.ts';
import { NO_KEEPER, type FileKeeper } from '../../../src/lockspace/file-keeper.ts';
import { isLocalFile } from '../../../src/lockspace/local-files.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import {
  adoptFile,
  closeDeferred,
  closeUnlessHeld,
  descriptorsOfReferences,
  findHeld,
  type HeldFile,
  isHeld,
  lockAgain,
  duplicateDeferred,
  releaseFile,
  lackingFds,
} from '../../../src/lockspace/files.ts';
import { type LockObserver, Lockspaces, type Lockspace } from '../../../src/lockspace/lockspaces.ts';
import { unknownOwner, type Hold } from '../../../src/lockspace/owner.ts';
import { openedBy } from '../../../src/proc/descriptors.ts';
import { posix } from '../../../src/posix/posix.ts';
import type { LockKind } from '../../../src/posix/record-lock.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { allLocks } from '../../../src/lab/observe.ts';
import { missingFuse } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { lockOf, OtherProcess, Rival, temporaryDirectory } from '../support/locks.ts';
import { OneNumber } from '../support/one-number.ts';

const SHARED = 1;
const AUTOCREATE = 2;
const hold = (pid: number): Hold => ({ owner: unknownOwner(pid), since: 0, client: 0 });
/** Of files only: Node.js opens and closes pipes, sockets and devices at any time, and the table of mounts stays open. */
const openDescriptors = (): number =>
  [...openedBy('self')].filter(([, name]) => /^\/(?!dev\/|proc\/)/.test(name)).length;

/** Has local files be locked by this kind. */
function keeping(kind: LockKind): FileKeeper {
  return kind === 'posix' ? NO_KEEPER : { ...NO_KEEPER, isKeeping: true, keeps: isLocalFile };
}

/** The error that the action is refused with, as `code domain detail`. */
function refusal(action: () => void): string {
  try {
    action();
  } catch (error) {
    if (error instanceof RpcError) return `${error.code} ${error.domain} ${error.detail}`;
    throw error;
  }
  return 'done';
}

const lockspacesWith = (kind: LockKind) => (): void => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let lockspaces: Lockspaces;
  let files: Lockspace;
  let descriptors: number;

  const at = (name: string): string => path.join(directory.path, name);
  const acquire = (name: string, flags: number, pid = 100): string =>
    refusal(() => {
      lockspaces.acquire(files, name, modeOf(flags), hold(pid));
    });
  const release = (name: string, pid = 100): string =>
    refusal(() => {
      lockspaces.release(files, name, pid);
    });
  const busy = (name: string): string => `87 51 Lockspace resource '${name}' is locked`;
  const touch = (name: string): string => {
    writeFileSync(at(name), 'content');
    return at(name);
  };

  beforeEach(() => {
    directory = temporaryDirectory();
    descriptors = openDescriptors();
    lockspaces = new Lockspaces(dialectOf(12_008_000), new Budget(), keeping(kind));
    files = lockspaces.create(directory.path);
  });
  afterEach(() => {
    for (const { resources } of lockspaces) {
      for (const resource of [...resources.values()]) lockspaces.endResource(resource);
    }
    assert.equal(openDescriptors(), descriptors, 'descriptors are left');
    directory.remove();
  });

  describe('acquire and release', () => {
    it('locks byte 0 for writing, and leaves a file that was there', () => {
      touch('a');
      assert.equal(acquire('a', 0), 'done');
      assert.equal(lockOf(at('a')), 'WRITE');
      assert.equal(release('a'), 'done');
      assert.equal(lockOf(at('a')), undefined);
      assert.equal(readFileSync(at('a'), 'latin1'), 'content');
    });

    it('grants a hold once more to its owner, and to nobody else, whose call may not have been answered', () => {
      const adopted = (name: string, flags: number): HeldFile => {
        touch(name);
        const fd = posix.openInode(at(name), 2);
        const file = adoptFile(fd, (flags & SHARED) !== 0, undefined, kind === 'ofd' ? 'ofd' : undefined);
        assert.ok(file !== null);
        assert.equal(lockAgain(file), null);
        lockspaces.restoreResource(files, name, at(name), modeOf(flags), file, [{ ...hold(100), unanswered: true }]);
        return file;
      };
      adopted('a', 0);
      assert.equal(acquire('a', 0, 200), busy('a'));
      assert.equal(acquire('a', SHARED), busy('a'));
      assert.equal(acquire('a', 0), 'done');
      assert.equal(acquire('a', 0), busy('a'));
      assert.equal(release('a'), 'done');
      adopted('b', SHARED);
      assert.equal(acquire('b', SHARED), 'done');
      assert.equal(acquire('b', SHARED), 'done');
      assert.equal(files.resources.get('b')?.holds.length, 2);
      for (let count = 0; count < 2; count++) assert.equal(release('b'), 'done');
      adopted('c', 0);
      adopted('d', 0);
      assert.equal(release('c'), 'done');
      assert.equal(acquire('d', 0), 'done');
      assert.equal(release('d'), 'done');
      // Another host has that lock by now: the guest that is resumed must not run.
      const lost = adopted('e', 0);
      lost.locked = false;
      assert.equal(acquire('e', 0), busy('e'));
      lost.locked = true;
      assert.equal(acquire('e', 0), 'done');
      assert.equal(release('e'), 'done');
      assert.equal(lockspaces.budget.used, 0);
    });

    it('locks byte 0 for reading when shared', () => {
      touch('a');
      assert.equal(acquire('a', SHARED), 'done');
      assert.equal(lockOf(at('a')), 'READ');
    });

    it('makes the file with mode 0600 when asked to, and removes it at the end', () => {
      assert.equal(acquire('a', AUTOCREATE), 'done');
      assert.equal(statSync(at('a')).mode & 0o7777, 0o600);
      assert.equal(release('a'), 'done');
      assert.ok(!existsSync(at('a')));
    });

    it('removes at the end also a file that was there, when acquired with autocreate', () => {
      touch('a');
      assert.equal(acquire('a', AUTOCREATE), 'done');
      assert.equal(release('a'), 'done');
      assert.ok(!existsSync(at('a')));
    });

    it('leaves a file that has taken its name, and minds nothing that is gone', () => {
      assert.equal(acquire('a', AUTOCREATE), 'done');
      unlinkSync(at('a'));
      touch('a');
      assert.equal(release('a'), 'done');
      assert.ok(existsSync(at('a')), 'another host may have that one locked');
      assert.equal(acquire('b', AUTOCREATE), 'done');
      unlinkSync(at('b'));
      assert.equal(release('b'), 'done');
    });

    it('refuses a missing file without autocreate', () => {
      assert.equal(acquire('a', 0), `38 51 Unable to open resource ${at('a')}: No such file or directory`);
      assert.equal(
        acquire('no/a', AUTOCREATE),
        `38 51 Unable to open/create resource ${at('no/a')}: No such file or directory`,
      );
    });

    it('refuses directories and names that are too long', () => {
      mkdirSync(at('d'));
      assert.equal(acquire('d', 0), `38 51 Unable to open resource ${at('d')}: Is a directory`);
      assert.equal(acquire('', AUTOCREATE), `38 51 Unable to open/create resource ${at('')}/: Is a directory`);
      for (const name of ['x'.repeat(256), 'x'.repeat(65536), '/x'.repeat(32768)]) {
        assert.match(acquire(name, AUTOCREATE), /: File name too long$/);
      }
    });

    it('takes any bytes as a name', () => {
      const name = '\xff\xfe \n%s';
      assert.equal(acquire(name, AUTOCREATE), 'done');
      assert.deepEqual(readdirSync(directory.path, 'buffer'), [Buffer.from(name, 'latin1')]);
    });

    it('refuses what is held, by the same owner too, unless both share', () => {
      for (const [first, second, expected] of [
        [0, 0, busy('a')],
        [0, SHARED, busy('a')],
        [SHARED, 0, busy('a')],
        [SHARED, SHARED, 'done'],
        [SHARED, SHARED | AUTOCREATE, 'done'],
        [AUTOCREATE, AUTOCREATE, busy('a')],
      ] as const) {
        touch('a');
        for (const pid of [100, 200]) {
          assert.equal(acquire('a', first), 'done');
          assert.equal(acquire('a', second, pid), expected);
          if (expected === 'done') assert.equal(release('a', pid), 'done');
          assert.equal(release('a'), 'done');
        }
      }
    });

    it('counts an owner as often as it acquired', () => {
      touch('a');
      for (let i = 0; i < 3; i++) assert.equal(acquire('a', SHARED), 'done');
      for (let i = 0; i < 2; i++) assert.equal(release('a'), 'done');
      assert.equal(lockOf(at('a')), 'READ');
      assert.equal(release('a'), 'done');
      assert.equal(release('a'), `87 51 Lockspace resource 'a' is not locked`);
    });

    it('refuses the release by who does not hold it', () => {
      touch('a');
      assert.equal(acquire('a', 0), 'done');
      assert.equal(release('a', 200), '1 51 owner 200 does not hold the resource lock');
      assert.equal(lockOf(at('a')), 'WRITE');
    });

    it('keeps to the flags of the first acquire', () => {
      touch('a');
      assert.equal(acquire('a', SHARED), 'done');
      assert.equal(acquire('a', SHARED | AUTOCREATE, 200), 'done');
      assert.equal(release('a'), 'done');
      assert.equal(release('a', 200), 'done');
      assert.ok(existsSync(at('a')));
      assert.equal(acquire('a', SHARED | AUTOCREATE), 'done');
      assert.equal(acquire('a', SHARED, 200), 'done');
      assert.equal(release('a'), 'done');
      assert.ok(existsSync(at('a')));
      assert.equal(release('a', 200), 'done');
      assert.ok(!existsSync(at('a')));
    });

    it('gives up to another process, and follows a link', async () => {
      const target = touch('target');
      symlinkSync(target, at('a'));
      const other = await OtherProcess.lock(target, 'WRITE');
      try {
        for (const flags of [0, SHARED, AUTOCREATE, SHARED | AUTOCREATE]) assert.equal(acquire('a', flags), busy('a'));
      } finally {
        await other.end();
      }
      assert.equal(acquire('a', 0), 'done');
      assert.equal(lockOf(target), 'WRITE');
    });

    it('shares with another process, and leaves it the file', async () => {
      touch('a');
      const other = await OtherProcess.lock(at('a'), 'READ');
      try {
        assert.equal(acquire('a', 0), busy('a'));
        assert.equal(acquire('a', SHARED | AUTOCREATE), 'done');
        assert.equal(release('a'), 'done');
        assert.ok(existsSync(at('a')));
      } finally {
        await other.end();
      }
      assert.equal(acquire('a', SHARED | AUTOCREATE), 'done');
      assert.equal(release('a'), 'done');
      assert.ok(!existsSync(at('a')));
    });

    it('creates the target of a dangling link, and at the end removes the link', () => {
      symlinkSync(at('target'), at('a'));
      assert.equal(acquire('a', AUTOCREATE), 'done');
      assert.equal(lockOf(at('target')), 'WRITE');
      assert.equal(release('a'), 'done');
      assert.deepEqual(readdirSync(directory.path), ['target']);
    });
  });

  describe('two names of one file', () => {
    const aliases: [string, (name: string) => void][] = [
      [
        'a symbolic link',
        (name) => {
          symlinkSync('a', at(name));
        },
      ],
      [
        'a hard link',
        (name) => {
          linkSync(at('a'), at(name));
        },
      ],
    ];
    for (const [what, make] of aliases) {
      it(`${what} is refused while the other is held, and costs it nothing`, () => {
        touch('a');
        make('b');
        for (const flags of [0, SHARED, AUTOCREATE, SHARED | AUTOCREATE]) {
          assert.equal(acquire('a', 0), 'done');
          assert.equal(acquire('b', flags), busy('b'));
          assert.equal(lockOf(at('a')), 'WRITE');
          assert.equal(release('a'), 'done');
        }
        assert.equal(acquire('a', SHARED), 'done');
        assert.equal(acquire('b', 0), busy('b'));
        assert.equal(lockOf(at('a')), 'READ');
      });

      it(`${what} shares with the other when both are shared, until the last is released`, () => {
        touch('a');
        make('b');
        for (const order of [
          ['a', 'b'],
          ['b', 'a'],
        ] as const) {
          assert.equal(acquire('a', SHARED), 'done');
          assert.equal(acquire('b', SHARED, 200), 'done');
          for (const name of order) {
            assert.equal(lockOf(at('a')), 'READ');
            assert.equal(release(name, name === 'a' ? 100 : 200), 'done');
          }
          assert.equal(lockOf(at('a')), undefined);
        }
      });

      it(`${what} made by CREATE_RESOURCE does not drop the lock`, () => {
        touch('a');
        make('b');
        assert.equal(acquire('a', 0), 'done');
        assert.equal(
          refusal(() => {
            lockspaces.createResource(files, 'b');
          }),
          'done',
        );
        assert.equal(lockOf(at('a')), 'WRITE');
      });

      it(`${what} is not removed by DELETE_RESOURCE`, () => {
        touch('a');
        make('b');
        assert.equal(acquire('a', 0), 'done');
        assert.equal(
          refusal(() => {
            lockspaces.deleteResource(files, 'b');
          }),
          busy('b'),
        );
        assert.ok(existsSync(at('b')));
        assert.equal(lockOf(at('a')), 'WRITE');
      });
    }

    it('by another lockspace or another spelling are one file too', () => {
      touch('a');
      const spelled = lockspaces.create(`${directory.path}/`);
      assert.notEqual(spelled, files);
      assert.equal(acquire('a', 0), 'done');
      assert.equal(
        refusal(() => {
          lockspaces.acquire(spelled, 'a', modeOf(0), hold(200));
        }),
        busy('a'),
      );
      const byPath = `${directory.path}/../${path.basename(directory.path)}/./a`;
      assert.equal(
        refusal(() => {
          lockspaces.acquire(lockspaces.default, byPath, modeOf(0), hold(200));
        }),
        busy(byPath),
      );
      assert.equal(acquire('./a', 0), busy('./a'));
      assert.equal(lockOf(at('a')), 'WRITE');
    });

    it('the file by its descriptor in /proc is refused as well', () => {
      touch('a');
      assert.equal(acquire('a', 0), 'done');
      const fd = [...files.resources.values()][0]?.file.fd ?? -1;
      const name = `/proc/self/fd/${fd}`;
      assert.equal(
        refusal(() => {
          lockspaces.acquire(lockspaces.default, name, modeOf(0), hold(200));
        }),
        busy(name),
      );
      assert.equal(lockOf(at('a')), 'WRITE');
    });

    it('a held file that was renamed and replaced leaves its name free for the new one', () => {
      touch('a');
      assert.equal(acquire('a', 0), 'done');
      renameSync(at('a'), at('old'));
      touch('a');
      assert.equal(acquire('old', 0), busy('old'));
      assert.equal(acquire('./a', 0), 'done');
      assert.equal(lockOf(at('a')), 'WRITE');
      assert.equal(lockOf(at('old')), 'WRITE');
    });
  });

  describe('a lease without a link', () => {
    let server: OneNumber;

    before(function () {
      skipIf(this, missingFuse());
    });
    afterEach(async () => {
      for (const { resources } of lockspaces) {
        for (const resource of [...resources.values()]) lockspaces.endResource(resource);
      }
      await server.end();
    });

    async function begin(how: 'unlinks' | 'no-links'): Promise<string> {
      server = await OneNumber.mount(how);
      files = lockspaces.create(server.path);
      const file = path.join(server.path, 'a');
      writeFileSync(file, '');
      return file;
    }

    it('is made again where its name is cached, and another host unlinks it between open and lock', async () => {
      const file = await begin('unlinks');
      const { ino } = statSync(file);
      assert.equal(acquire('a', AUTOCREATE), 'done');
      const locked = allLocks()
        .filter(({ pid }) => pid === process.pid)
        .map(({ inode }) => inode);
      assert.ok(!locked.includes(ino), 'the file without a link is locked');
      assert.equal(statSync(file).ino, files.resources.get('a')?.file.inode);
      assert.ok(locked.includes(statSync(file).ino));
    });

    it('is locked where the file system counts none', async () => {
      const file = await begin('no-links');
      assert.equal(acquire('a', 0), 'done');
      assert.equal(release('a'), 'done');
      assert.equal(acquire('a', AUTOCREATE), 'done');
      assert.equal(lockOf(file), 'WRITE');
    });
  });

  describe('files of one number, as a file server shows them that gives numbers out again', () => {
    let server: OneNumber;

    before(function () {
      skipIf(this, missingFuse());
    });
    beforeEach(async () => {
      server = await OneNumber.mount();
      files = lockspaces.create(server.path);
    });
    afterEach(async () => {
      for (const { resources } of lockspaces) {
        for (const resource of [...resources.values()]) lockspaces.endResource(resource);
      }
      await server.end();
    });

    /** As the kernel has them. */
    const locks = (): string[] =>
      allLocks()
        .filter(({ pid, inode }) => pid === process.pid && inode === server.inode)
        .map(({ access }) => access);
    const held = (name: string): boolean =>
      files.resources.get(name)?.file === findHeld(path.join(server.path, name))[0];

    it('are names of one file: made while another is held, such a file is refused', () => {
      assert.equal(acquire('a', AUTOCREATE), 'done');
      for (const flags of [AUTOCREATE, AUTOCREATE | SHARED]) assert.equal(acquire('b', flags), busy('b'));
      assert.equal(acquire('b', 0), busy('b'));
      assert.ok(held('a'));
      assert.equal(release('a'), 'done');
      assert.deepEqual(locks(), []);
      assert.equal(acquire('b', 0), 'done');
      assert.ok(held('b'));
    });

    it('are shared by those who share, and each stays locked until the last of them goes', () => {
      for (const name of ['a', 'b']) assert.equal(acquire(name, AUTOCREATE | SHARED), 'done');
      assert.equal(acquire('c', AUTOCREATE), busy('c'));
      assert.deepEqual(locks().sort(), ['READ', 'READ', 'WRITE']);
      assert.equal(release('a'), 'done');
      assert.ok(held('b'));
      assert.ok(locks().includes('READ'));
      assert.equal(release('b'), 'done');
      assert.deepEqual(locks(), []);
    });

    it('stay open and locked, each of them, when they were taken over from before a restart', () => {
      const names = ['a', 'b'].map((name) => path.join(server.path, name));
      const before = openDescriptors();
      const [one, two] = names.map((name) => {
        const fd = posix.openInode(name, constants.O_RDWR | constants.O_CREAT);
        assert.equal(posix.lockNamed(fd, false, null), 0);
        return adoptFile(fd, false);
      });
      assert.ok(one != null && two != null);
      assert.deepEqual(locks(), ['WRITE', 'WRITE']);
      for (const name of names) assert.deepEqual(findHeld(name), [one]);
      releaseFile(one, '', names[0] ?? '', false);
      assert.deepEqual(locks(), ['WRITE', 'WRITE']);
      for (const name of names) assert.deepEqual(findHeld(name), [one]);
      releaseFile(two, '', names[1] ?? '', false);
      assert.deepEqual(locks(), []);
      assert.equal(openDescriptors(), before);
    });
  });

  describe('a file taken over from before a restart', () => {
    /** As the previous program left it. */
    function locked(file: string, shared: boolean): number {
      const fd = posix.openInode(file, 2);
      posix.lockNamed(fd, shared, null);
      return fd;
    }

    it('keeps every descriptor of one inode open until the last use ends', () => {
      const file = touch('a');
      const [first, second] = [locked(file, true), locked(file, true)];
      const one = adoptFile(first, true);
      const two = adoptFile(second, true);
      assert.ok(one !== null && two !== null);
      assert.equal(one, two);
      assert.deepEqual([one.locked, two.locked], [true, true]);
      releaseFile(one, '', file, false);
      assert.equal(lockOf(file), 'READ');
      releaseFile(two, '', file, false);
      assert.equal(lockOf(file), undefined);
    });

    it('is not asked for its lock before it is to be', async () => {
      const file = touch('a');
      const other = await OtherProcess.lock(file, 'WRITE');
      const adopted = adoptFile(posix.openInode(file, 2), false);
      assert.equal(adopted?.locked, true);
      assert.deepEqual(lockAgain(adopted), { kind: 'busy', pid: other.pid });
      await other.end();
      assert.equal(lockOf(file), undefined);
      assert.equal(lockAgain(adopted), null);
      assert.equal(lockOf(file), 'WRITE');
      releaseFile(adopted, '', file, false);
    });

    it('is not unlinked when its lock is lost', () => {
      const file = touch('a');
      const adopted = adoptFile(posix.openInode(file, 2), false);
      assert.ok(adopted !== null);
      adopted.locked = false;
      releaseFile(adopted, '', file, true);
      assert.ok(existsSync(file));
    });

    it('is held exclusively when it is under one of its names', () => {
      const file = touch('a');
      const descriptors = [locked(file, true), locked(file, false), locked(file, false)];
      const names = descriptors.map((fd, index) => adoptFile(fd, index !== 1));
      assert.deepEqual(
        names.map((name) => name?.shared),
        [false, false, false],
      );
      for (const name of names) if (name !== null) releaseFile(name, '', file, false);
    });
  });

  describe('a file with many names', () => {
    /** Taken over with a number of names; released again after the test. */
    function named(file: string, names: number): HeldFile {
      const fd = posix.openInode(file, 2);
      posix.lockNamed(fd, true, null);
      const all = Array.from({ length: names }, () => adoptFile(fd, true));
      const [adopted] = all;
      assert.ok(adopted != null);
      return adopted;
    }
    function forget(held: HeldFile, file: string): void {
      while (held.references > 0) releaseFile(held, '', file, false);
      assert.equal(lockOf(file), undefined);
    }
    const numbers = (file: HeldFile): Set<number> => {
      const descriptors = descriptorsOfReferences(file);
      return new Set(Array.from({ length: file.references }, () => descriptors.next().value));
    };

    it('takes one descriptor, unless it is to be handed to a program that needs one for each', () => {
      const file = touch('a');
      const before = openDescriptors();
      const held = named(file, 10);
      assert.equal(numbers(held).size, 1);
      assert.equal(openDescriptors(), before + 1);
      assert.equal(lackingFds(held), 9);
      for (let lacking = 9; lacking > 0; lacking--) assert.ok(duplicateDeferred(held) > held.fd);
      assert.equal(lackingFds(held), 0);
      assert.equal(numbers(held).size, 10);
      assert.equal(openDescriptors(), before + 10);
      forget(held, file);
      assert.equal(openDescriptors(), before);
    });

    it('gives back the descriptors made for that, and is never free', async () => {
      const file = touch('a');
      const held = named(file, 4);
      const before = openDescriptors();
      const rival = await Rival.at(file);
      for (let round = 0; round < 300; round++) {
        for (let made = 0; made < 3; made++) assert.ok(duplicateDeferred(held) > held.fd);
        closeDeferred(held);
      }
      assert.ok(!(await rival.end()));
      assert.equal(openDescriptors(), before);
      assert.equal(lackingFds(held), 3);
      assert.equal(lockOf(file), 'READ');
      const { ino } = statSync(file);
      assert.ok(!allLocks().some(({ inode, kind }) => inode === ino && kind === 'OFDLCK'));
      forget(held, file);
    });
  });

  describe('a file with several descriptors', () => {
    for (const [shared, lock] of [
      [false, 'WRITE'],
      [true, 'READ'],
    ] as const) {
      it(`that is to go stays locked for as long as it has its name: ${lock}`, () => {
        const file = touch('a');
        const fd = posix.openInode(file, 2);
        posix.lockNamed(fd, shared, null);
        const adopted = adoptFile(fd, shared);
        assert.ok(adopted !== null);
        adopted.addDeferredFd(posix.duplicate(fd));
        // An unlink or close looks up its descriptor first.
        const seen: (string | undefined)[] = [];
        const get = (): number => {
          if (existsSync(file)) seen.push(lockOf(file));
          return fd;
        };
        Object.defineProperty(adopted, 'fd', { get });
        releaseFile(adopted, '', file, true);
        assert.equal(seen[0], lock);
        assert.ok(!seen.includes(undefined), seen.join());
        assert.ok(!existsSync(file));
      });
    }
  });

  describe('a descriptor that is not needed any more', () => {
    it('is closed, but not that of a held file', () => {
      touch('a');
      const before = openDescriptors();
      assert.equal(closeUnlessHeld(posix.openInode(at('a'), 0)), 0);
      assert.equal(openDescriptors(), before);
      const fd = posix.openInode(at('a'), 0);
      assert.equal(acquire('a', 0), 'done');
      assert.equal(closeUnlessHeld(fd), 0);
      assert.equal(lockOf(at('a')), 'WRITE');
      assert.equal(release('a'), 'done');
      assert.equal(openDescriptors(), before);
    });
  });

  describe('a descriptor that is not the file from before a restart', () => {
    it('is not taken over, nor is its file locked', () => {
      const file = touch('a');
      const fd = posix.openInode(file, 2);
      assert.equal(adoptFile(fd, false, 'another'), null);
      assert.equal(lockOf(file), undefined);
      posix.close(fd);
      assert.equal(adoptFile(fd, false), null);
    });
  });

  describe('create and delete', () => {
    const create = (name: string): string =>
      refusal(() => {
        lockspaces.createResource(files, name);
      });
    const remove = (name: string): string =>
      refusal(() => {
        lockspaces.deleteResource(files, name);
      });

    it('make an empty file of mode 0600, leave one that exists, and unlink', () => {
      assert.equal(create('a'), 'done');
      assert.equal(statSync(at('a')).mode & 0o7777, 0o600);
      touch('a');
      assert.equal(create('a'), 'done');
      assert.equal(readFileSync(at('a'), 'latin1'), 'content');
      assert.equal(remove('a'), 'done');
      assert.equal(remove('a'), 'done');
    });

    it('refuse what is held', () => {
      touch('a');
      assert.equal(acquire('a', SHARED), 'done');
      assert.equal(create('a'), busy('a'));
      assert.equal(remove('a'), busy('a'));
    });

    it('report what the system says', () => {
      mkdirSync(at('d'));
      assert.equal(create('no/a'), `38 0 cannot create file '${at('no/a')}': No such file or directory`);
      assert.equal(create('d'), `38 0 cannot create file '${at('d')}': Is a directory`);
      assert.equal(remove('d'), `38 51 Unable to delete lockspace resource ${at('d')}: Is a directory`);
    });

    it('do not wait for a reader of a FIFO', () => {
      execFileSync('mkfifo', [at('fifo')]);
      assert.equal(create('fifo'), `38 0 cannot create file '${at('fifo')}': No such device or address`);
    });
  });

  describe('of lockspaces', () => {
    it('makes the directory with its parents, mode 0700', () => {
      lockspaces.create(at('x/y/z'));
      for (const name of ['x', 'x/y', 'x/y/z']) assert.equal(statSync(at(name)).mode & 0o7777, 0o700);
    });

    it('reports a file in the way, and what the system says', () => {
      touch('f');
      assert.equal(
        refusal(() => {
          lockspaces.create(at('f'));
        }),
        `1 51 Lockspace location ${at('f')} exists, but is not a directory`,
      );
      assert.equal(
        refusal(() => {
          lockspaces.create(at('f/g'));
        }),
        `38 51 Unable to create lockspace ${at('f/g')}: Not a directory`,
      );
    });

    it('takes a relative path but in the dialect of 7.0.0', () => {
      const old = new Lockspaces(dialectOf(7_000_000));
      assert.equal(
        refusal(() => {
          old.create('relative');
        }),
        '38 51 Unable to create lockspace relative: Invalid argument',
      );
    });
  });

  it('delete nothing that is held under another name, or locked by another process', async () => {
    touch('a');
    linkSync(at('a'), at('b'));
    symlinkSync(at('a'), at('c'));
    acquire('a', 0);
    const remove = (name: string): string =>
      refusal(() => {
        lockspaces.deleteResource(files, name);
      });
    for (const name of ['a', 'b', 'c']) assert.equal(remove(name), busy(name));
    assert.equal(lockOf(at('a')), 'WRITE');
    assert.equal(release('a'), 'done');
    const other = await OtherProcess.lock(at('a'), 'READ');
    for (const name of ['a', 'b']) assert.equal(remove(name), busy(name));
    assert.equal(remove('c'), 'done', 'a link is nothing that anybody locks');
    await other.end();
    for (const name of ['a', 'b']) assert.equal(remove(name), 'done');
    assert.deepEqual(readdirSync(directory.path), []);
  });

  it('share nothing that was lost', () => {
    touch('a');
    linkSync(at('a'), at('b'));
    acquire('a', SHARED);
    const resource = files.resources.get('a');
    assert.ok(resource !== undefined);
    resource.file.locked = false;
    assert.equal(acquire('a', SHARED, 200), busy('a'));
    assert.equal(acquire('b', SHARED, 200), busy('b'));
    release('a');
    assert.equal(acquire('a', SHARED, 200), 'done');
  });

  it('give one block device to one owner, by whatever node', function () {
    try {
      for (const name of ['n1', 'n2']) execFileSync('mknod', [at(name), 'b', '7', '0'], { stdio: 'ignore' });
      posix.close(posix.openInode(at('n1'), 2));
    } catch {
      this.skip();
    }
    if (acquire('n1', 0) !== 'done') this.skip();
    assert.equal(acquire('n2', 0, 200), busy('n2'));
    release('n1');
    assert.equal(acquire('n2', 0, 200), 'done');
    release('n2', 200);
    acquire('n1', SHARED);
    assert.equal(acquire('n2', SHARED, 200), 'done');
    assert.equal(release('n1'), 'done');
    assert.equal(acquire('n1', 0), busy('n1'));
    assert.equal(release('n2', 200), 'done');
  });

  it('know what an owner holds, and release all of it', () => {
    for (const name of ['a', 'b', 'c']) touch(name);
    acquire('a', 0);
    acquire('b', SHARED);
    acquire('b', SHARED);
    acquire('b', SHARED, 200);
    acquire('c', 0, 200);
    assert.deepEqual(
      [...lockspaces.heldBy(100)].map(({ name }) => name),
      ['a', 'b'],
    );
    const end = { id: 1, isAwaited: false, isGone: false, wait: () => () => undefined };
    for (const resource of [...lockspaces.heldBy(100)]) {
      for (const held of resource.holds) if (held.owner.pid === 100) held.end = end;
      lockspaces.releaseEnded(resource, end);
    }
    assert.deepEqual([...lockspaces.heldBy(100)], []);
    assert.deepEqual(
      [...files.resources.values()].map(({ name }) => name),
      ['b', 'c'],
    );
    assert.equal(lockspaces.count, 2);
    assert.equal(isHeld(at('a')), false);
    assert.equal(isHeld(at('b')), true);
  });

  it('tell an observer of everything, in order', () => {
    const events: string[] = [];
    const observer: LockObserver = {
      acquired: ({ name }, { owner }) => events.push(`acquired ${name} ${owner.pid}`),
      lockChanged: () => undefined,
      released: ({ name }, { owner }) => events.push(`released ${name} ${owner.pid}`),
      refused: ({ name, heldBy, hold: { owner } }) =>
        events.push(`refused ${name} ${owner.pid} ${heldBy?.holds[0]?.owner.pid ?? '-'}`),
    };
    lockspaces.observe(observer);
    touch('a');
    linkSync(at('a'), at('b'));
    acquire('a', 0);
    acquire('a', 0, 200);
    acquire('b', 0, 200);
    release('a');
    release('a');
    assert.deepEqual(events, ['acquired a 100', 'refused a 200 100', 'refused b 200 100', 'released a 100']);
  });
};

for (const kind of ['posix', 'ofd'] as const) describe(`lockspaces with ${kind} locks`, lockspacesWith(kind));
