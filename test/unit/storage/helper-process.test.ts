/** The helper's program, asked over its socket: what it does to files, and how it ends. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, linkSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { setLock } from '../../../src/posix/record-lock.ts';
import { installRoot } from '../../../src/posix/root.ts';
import {
  type Answer,
  ANSWER_SIZE,
  AnswerFlag,
  NOTED_ANSWER_SIZE,
  Operation,
  readAnswer,
  type Request,
  REQUEST_MAX,
  RequestFlag,
  serialOf,
  writeRequest,
} from '../../../src/storage/messages.ts';
import { type HolderNote, parseNote, writeNote } from '../../../src/storage/holder-note.ts';
import { OtherProcess, temporaryDirectory } from '../support/locks.ts';

const { EAGAIN, EALREADY, EEXIST, EINVAL, EISDIR, EMLINK, ENAMETOOLONG, ENOENT, EOPNOTSUPP, ESTALE } = constants.errno;
/** Not in Node.js's list. */
const EUSERS = 87;

class Helper {
  readonly socket: number;
  readonly pid: number;
  /** That came with the last answers. */
  notes: Buffer[] = [];
  private serial = 0;

  private constructor(socket: number, pid: number) {
    this.socket = socket;
    this.pid = pid;
  }

  static async start(): Promise<Helper> {
    const ends = new Int32Array(2);
    assert.equal(posix.packetPair(ends), 0);
    const [ours = -1, theirs = -1] = ends;
    const mark = `/proof ${Math.random()}`;
    const child = spawn(path.join(installRoot, 'dist/storage'), [mark], {
      stdio: ['ignore', 'ignore', 'ignore', theirs],
    });
    posix.close(theirs);
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 0);
    const pid = processWith(mark);
    return new Helper(ours, pid);
  }

  async send(request: Request): Promise<Answer> {
    const [last] = (await this.all(request)).slice(-1);
    assert.ok(last);
    return last;
  }

  /** All answers to the request. */
  async all(request: Request): Promise<Answer[]> {
    const buffer = Buffer.alloc(REQUEST_MAX);
    const length = writeRequest(buffer, ++this.serial, request);
    return this.raw(buffer, length);
  }

  async raw(buffer: Buffer, length: number): Promise<Answer[]> {
    assert.equal(posix.sendPacket(this.socket, buffer, length), 0);
    const answers: Answer[] = [];
    const input = Buffer.alloc(NOTED_ANSWER_SIZE);
    const attached = new Int32Array(1);
    this.notes = [];
    await eventually('it answers', () => {
      for (let size: number; (size = posix.receivePacket(this.socket, input, attached)) >= ANSWER_SIZE;) {
        if (size > ANSWER_SIZE) this.notes.push(Buffer.from(input.subarray(ANSWER_SIZE, size)));
        if (length >= 24) assert.equal(serialOf(input), this.serial);
        answers.push(readAnswer(input, attached[0] ?? -1));
      }
      return answers.length > 0 && ((answers.at(-1)?.flags ?? 0) & AnswerFlag.MORE) === 0;
    });
    return answers;
  }

  get isThere(): boolean {
    return existsSync(`/proc/${this.pid}`);
  }

  /** Closes the daemon's end. */
  async end(): Promise<void> {
    posix.close(this.socket);
    await eventually('it has ended', () => !this.isThere);
  }
}

function processWith(mark: string): number {
  for (const pid of posixPids()) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark)) return pid;
    } catch {
      // It has ended.
    }
  }
  throw new Error('there is no such process');
}

function posixPids(): number[] {
  return process
    .getBuiltinModule('node:fs')
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

describe('the storage helper', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let helper: Helper;
  const at = (name: string): string => path.join(directory.path, name);
  const acquire = async (name: string, flags = 0): Promise<Answer> =>
    helper.send({ operation: Operation.ACQUIRE, flags, path: at(name) });
  const release = async ({ file }: Answer, name: string, flags: number = RequestFlag.UNLINK): Promise<Answer> =>
    helper.send({ operation: Operation.RELEASE, flags, file, path: flags === 0 ? '' : at(name) });
  const touch = (name: string): void => {
    writeFileSync(at(name), '');
  };
  /** Whether an open file of this process can lock the file. */
  const isFree = (name: string, type: LockType = LockType.WRITE): boolean => {
    const fd = posix.openInode(at(name), 2);
    const status = setLock('ofd', fd, type);
    posix.close(fd);
    return status === 0;
  };
  const listed = async (): Promise<[number, boolean][]> =>
    (await helper.all({ operation: Operation.LIST }))
      .slice(0, -1)
      .map(({ file, flags }) => [file, (flags & AnswerFlag.SHARED) !== 0]);

  beforeEach(async () => {
    directory = temporaryDirectory();
    helper = await Helper.start();
  });
  afterEach(async () => {
    if (helper.isThere) await helper.end();
    directory.remove();
  });

  it('locks files that are there or are made, each in one request, and says which they are', async () => {
    touch('old');
    for (const [name, flags] of [
      ['old', 0],
      ['new', RequestFlag.CREATE],
    ] as const) {
      const answer = await acquire(name, flags);
      const { ino, dev } = statSync(at(name));
      assert.deepEqual([answer.status, answer.stat?.inode, answer.stat?.device], [0, ino, dev]);
      assert.equal(isFree(name), false);
    }
    assert.equal(statSync(at('new')).mode & 0o777, 0o600);
    const missing = await acquire('missing');
    assert.deepEqual([missing.status, missing.flags & ~AnswerFlag.HELPER], [-ENOENT, AnswerFlag.OPEN]);
    assert.equal((await acquire('.', RequestFlag.CREATE)).status, -EISDIR);
  });

  it('refuses what it has locked itself, and what another process has, whom it names', async () => {
    touch('file');
    const held = await acquire('file');
    linkSync(at('file'), at('link'));
    const again = await acquire('link');
    assert.deepEqual([again.status, again.flags & AnswerFlag.BUSY, again.rival], [-EAGAIN, AnswerFlag.BUSY, -1]);
    assert.equal(again.stat?.inode, held.stat?.inode);
    touch('other');
    const other = await OtherProcess.lock(at('other'), 'WRITE');
    const refused = await acquire('other');
    assert.deepEqual([refused.status, refused.rival], [-EAGAIN, other.pid]);
    await other.end();
    assert.equal((await acquire('other')).status, 0);
  });

  it('shares with others who share', async () => {
    touch('file');
    const one = await acquire('file', RequestFlag.SHARED);
    const two = await acquire('file', RequestFlag.SHARED);
    assert.deepEqual([one.status, two.status, isFree('file', LockType.READ), isFree('file')], [0, 0, true, false]);
    assert.deepEqual(await listed(), [
      [one.file, true],
      [two.file, true],
    ]);
    // Only the last sharer unlinks.
    await release(one, 'file');
    assert.ok(existsSync(at('file')));
    await release(two, 'file');
    assert.ok(!existsSync(at('file')));
  });

  it('unlinks only the file that it has locked', async () => {
    const held = await acquire('file', RequestFlag.CREATE);
    renameSync(at('file'), at('elsewhere'));
    touch('file');
    assert.equal(
      (await helper.send({ operation: Operation.CONFIRM, file: held.file, path: at('file') })).status,
      -ESTALE,
    );
    assert.equal(
      (await helper.send({ operation: Operation.CONFIRM, file: held.file, path: at('elsewhere') })).status,
      0,
    );
    assert.equal((await release(held, 'file')).status, 0);
    assert.ok(existsSync(at('file')) && isFree('elsewhere'));
    assert.equal((await release(held, 'file')).status, -ENOENT);
  });

  it('makes files and directories, stats and deletes them, but nothing that is locked', async () => {
    const ask = async (operation: Operation, name: string): Promise<number> =>
      (await helper.send({ operation, path: at(name) })).status;
    assert.deepEqual([await ask(Operation.MAKE_DIRECTORY, 'd'), await ask(Operation.CREATE, 'd/f')], [0, 0]);
    assert.equal(await ask(Operation.CREATE, 'd/f'), 0);
    assert.equal(await ask(Operation.CREATE, 'd'), -EISDIR);
    assert.equal(
      (await helper.send({ operation: Operation.STAT, path: at('d/f') })).stat?.inode,
      statSync(at('d/f')).ino,
    );
    const held = await acquire('d/f');
    assert.equal(await ask(Operation.DELETE, 'd/f'), -EAGAIN);
    await release(held, 'd/f', 0);
    symlinkSync(at('d'), at('l'));
    assert.deepEqual([await ask(Operation.DELETE, 'd/f'), await ask(Operation.DELETE, 'd/f')], [0, 0]);
    assert.deepEqual([await ask(Operation.DELETE, 'l'), existsSync(at('l'))], [0, false]);
    assert.equal(await ask(Operation.STAT, 'd/f'), -ENOENT);
  });

  it('hands a descriptor over, with which the lock goes on', async () => {
    touch('file');
    const held = await acquire('file');
    const { fd } = await helper.send({ operation: Operation.HAND_OVER, file: held.file });
    assert.ok(fd >= 0);
    assert.equal((await helper.send({ operation: Operation.FORGET, file: held.file })).status, 0);
    assert.deepEqual(await listed(), []);
    assert.equal(isFree('file'), false);
    setLock('ofd', fd, LockType.UNLOCK);
    assert.equal(isFree('file'), true);
    posix.close(fd);
  });

  describe('notes of holders', () => {
    const holderOf = (name: string, shared = false): HolderNote => ({
      host: 'node7',
      hostUuid: null,
      name,
      uuid: '00000000-0000-0000-0000-000000000007',
      pid: 7,
      shared,
      since: 1,
      owners: 1,
    });
    const note = async ({ file }: Answer, name: string, vm = 'db'): Promise<number> => {
      const request = { operation: Operation.NOTE, file, path: at(name), note: writeNote(holderOf(vm)) };
      return (await helper.send(request)).status;
    };
    const read = async (name: string): Promise<(string | undefined)[]> => {
      await helper.send({ operation: Operation.READ_NOTES, path: at(name) });
      return helper.notes.map((slot) => parseNote(slot)?.name);
    };
    const content = (name: string): string => readFileSync(at(name), 'latin1');

    it('are in the file while the lock is, and read as long', async () => {
      const held = await acquire('lease', RequestFlag.CREATE);
      assert.equal(await note(held, 'lease'), 0);
      assert.deepEqual(await read('lease'), ['db']);
      assert.match(content('lease'), /^virtlockd holders 1\n\0+virtlockd holder 1 crc32=[0-9a-f]{8}\nhost=node7\n/);
      assert.equal(statSync(at('lease')).size, 1024);
      assert.equal(await note(held, 'lease', 'web'), 0);
      assert.deepEqual(await read('lease'), ['web']);
      const copy = readFileSync(at('lease'));
      await release(held, 'lease');
      assert.ok(!existsSync(at('lease')));
      writeFileSync(at('lease'), copy);
      assert.deepEqual(await read('lease'), []);
      const next = await acquire('lease', RequestFlag.CREATE);
      assert.deepEqual(await read('lease'), [], 'its lock is not the holder’s that has noted itself');
      assert.equal(await note(next, 'lease', 'next'), 0);
      assert.deepEqual(await read('lease'), ['next']);
    });

    it('have a slot for each that shares, of which there are 31, and are cleared', async () => {
      const holders: Answer[] = [];
      for (let i = 0; i < 32; i++) holders.push(await acquire('lease', RequestFlag.CREATE | RequestFlag.SHARED));
      const statuses: number[] = [];
      for (const [i, holder] of holders.entries()) statuses.push(await note(holder, 'lease', `vm${i}`));
      assert.deepEqual(statuses, [...Array.from({ length: 31 }, () => 0), -EUSERS]);
      assert.equal((await read('lease')).length, 31);
      assert.equal(statSync(at('lease')).size, 16_384);
      const [, second] = holders;
      assert.ok(second);
      await release(second, 'lease');
      assert.doesNotMatch(content('lease'), /vm=vm1\n/);
      const [last] = holders.slice(-1);
      assert.ok(last);
      assert.equal(await note(last, 'lease', 'last'), 0);
      const names = await read('lease');
      assert.deepEqual([names.length, names[1]], [31, 'last']);
    });

    it('are written into no file with other bytes, with two names or through a link, nor for one that is not held', async () => {
      const image = Buffer.from('QFI\xfb image', 'latin1');
      for (const bytes of [image, Buffer.from('v'), Buffer.alloc(4096), Buffer.from('virtlockd holders 2\n')]) {
        writeFileSync(at('image'), bytes);
        const held = await acquire('image', RequestFlag.CREATE);
        assert.equal(await note(held, 'image'), -EEXIST);
        await release(held, 'image', 0);
        assert.deepEqual(readFileSync(at('image')), bytes);
        assert.deepEqual(await read('image'), []);
      }
      touch('empty');
      symlinkSync(at('empty'), at('soft'));
      const soft = await acquire('soft', RequestFlag.CREATE);
      assert.equal(await note(soft, 'soft'), -EMLINK);
      await release(soft, 'soft', 0);
      linkSync(at('empty'), at('hard'));
      const hard = await acquire('hard', RequestFlag.CREATE);
      assert.equal(await note(hard, 'hard'), -EMLINK);
      // The name is another file's by now.
      renameSync(at('hard'), at('moved'));
      touch('hard');
      assert.equal(await note(hard, 'hard'), -EMLINK);
      await release(hard, 'hard', 0);
      for (const name of ['empty', 'moved', 'hard']) assert.equal(content(name), '');
      assert.equal(await note({ ...hard, file: 999 }, 'empty'), -ENOENT);
    });

    it('of any bytes are handed on as they are, and found to be none', async () => {
      const bytes = Buffer.alloc(1024, 0xff);
      bytes.write('virtlockd holders 1\n', 'latin1');
      writeFileSync(at('lease'), bytes);
      const held = await acquire('lease', RequestFlag.CREATE);
      const fd = posix.openInode(at('lease'), 2);
      assert.equal(posix.setOfdLock(fd, LockType.WRITE, 512, 1), 0);
      assert.deepEqual(await read('lease'), [undefined]);
      assert.equal(await note(held, 'lease'), 0);
      posix.close(fd);
      assert.deepEqual(await read('lease'), ['db']);
      assert.deepEqual(await read('missing'), []);
      assert.deepEqual(await read('.'), []);
    });
  });

  it('says that a local file system cannot be asked about a lock, and takes none again that is not lost', async () => {
    touch('file');
    const held = await acquire('file');
    const ask = async (operation: Operation, file: number): Promise<number> =>
      (await helper.send({ operation, file, ...(operation === Operation.LOCK_AGAIN ? { path: at('file') } : {}) }))
        .status;
    assert.equal(await ask(Operation.CONFIRM_LOCK, held.file), -EOPNOTSUPP);
    assert.equal(await ask(Operation.LOCK_AGAIN, held.file), -EALREADY);
    assert.equal(await ask(Operation.CONFIRM_LOCK, held.file + 1), -ENOENT);
    assert.equal(await ask(Operation.LOCK_AGAIN, held.file + 1), -ENOENT);
    assert.equal(isFree('file'), false);
  });

  it('answers what it cannot read with an error, and goes on', async () => {
    const status = async (request: Request): Promise<number> => (await helper.send(request)).status;
    assert.equal(await status({ operation: 99 as Operation }), -EOPNOTSUPP);
    assert.equal(await status({ operation: 0 as Operation }), -EOPNOTSUPP);
    for (const bad of ['relative', '', '/with\0zero'])
      assert.equal(await status({ operation: Operation.STAT, path: bad }), -EINVAL);
    assert.equal(await status({ operation: Operation.LIST, path: '/x' }), -EINVAL);
    assert.equal(await status({ operation: Operation.STAT, flags: RequestFlag.UNLINK, path: '/' }), -EINVAL);
    const long = Buffer.alloc(8000, '/');
    long.writeUInt32LE(Operation.STAT, 0);
    assert.equal((await helper.raw(long, 10))[0]?.status, -EINVAL);
    writeRequest(long, 11, { operation: Operation.STAT, path: '/' });
    assert.equal((await helper.raw(long, 11))[0]?.status, -EINVAL);
    assert.equal(await status({ operation: Operation.STAT, path: '/' }), 0);
  });

  it('answers a message that is too long', async () => {
    const long = Buffer.alloc(8000, '/');
    writeRequest(long, 1, { operation: Operation.STAT, path: '/' });
    posix.sendPacket(helper.socket, long, 8000);
    const input = Buffer.alloc(ANSWER_SIZE);
    await eventually('it answers', () => posix.receivePacket(helper.socket, input, new Int32Array(1)) === ANSWER_SIZE);
    assert.equal(readAnswer(input, -1).status, -ENAMETOOLONG);
  });

  it('keeps many files, and finds each', async () => {
    const held: Answer[] = [];
    for (let i = 0; i < 200; i++) held.push(await acquire(String(i), RequestFlag.CREATE));
    for (const [i, one] of held.entries()) if (i % 2 === 0) assert.equal((await release(one, String(i))).status, 0);
    assert.deepEqual(
      (await listed()).map(([file]) => file),
      held.filter((_, i) => i % 2 === 1).map(({ file }) => file),
    );
    assert.deepEqual([existsSync(at('0')), existsSync(at('1')), isFree('1')], [false, true, false]);
  });

  it('ends by no signal but SIGKILL, and with its socket alone', async () => {
    touch('file');
    await acquire('file');
    for (const [name, number] of Object.entries(constants.signals)) {
      if (name !== 'SIGKILL' && name !== 'SIGSTOP') process.kill(helper.pid, number);
    }
    assert.equal((await listed()).length, 1);
    // In a session of its own: no terminal and no group ends it, and nobody waits for it.
    const fields = readFileSync(`/proc/${helper.pid}/stat`, 'latin1').replace(/.*\) /, '').split(' ').map(Number);
    const [, parent, , session] = fields;
    assert.notEqual(parent, process.pid);
    assert.notEqual(session, helper.pid);
    assert.match(readFileSync(`/proc/${helper.pid}/comm`, 'latin1'), /^virtlockd-stora/);
    const other = posix.duplicate(helper.socket);
    posix.close(helper.socket);
    assert.equal(isFree('file'), false);
    assert.ok(helper.isThere);
    posix.close(other);
    await eventually('it has ended', () => !helper.isThere);
    assert.equal(isFree('file'), true);
  });
});
