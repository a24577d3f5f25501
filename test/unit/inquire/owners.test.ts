import assert from 'node:assert/strict';
import { CommandLines } from '../../../src/inquire/command-lines.ts';
import { describeOwner, guessOwner, isDescribed, lookForOwner } from '../../../src/inquire/owners.ts';
import { commandLineOf } from '../../../src/proc/processes.ts';
import { NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { Identity } from '../../../xdr/programs/inquire.ts';

const uuid = '0b2e6b1c-5b2e-4f6a-9d3c-2f1e0d9c8b7a';
const line = (...words: readonly string[]): readonly string[] => words;

describe('what is known of an owner', () => {
  it('takes what it registered', () => {
    const owner = { pid: 7, id: 3, name: 'web', uuid };
    assert.ok(isDescribed(owner), 'its process is not read');
    assert.deepEqual(describeOwner(owner), { ...owner, identity: Identity.REGISTERED });
  });

  it("reads the guest's name and UUID off a QEMU's command line", () => {
    const qemu = line('/usr/bin/qemu-system-x86_64', '-name', 'guest=web,debug-threads=on', '-S', '-uuid', uuid);
    assert.deepEqual(guessOwner(7, qemu), { pid: 7, id: 0, name: 'web', uuid, identity: Identity.GUESSED });
  });

  it('reads names with commas, which QEMU doubles, and the short form', () => {
    assert.equal(guessOwner(7, line('kvm', '-name', 'guest=a,,b,process=x')).name, 'a,b');
    assert.equal(guessOwner(7, line('/usr/bin/kvm', '-name', 'short,process=x')).name, 'short');
  });

  it('does not believe other programs, nor what is no UUID', () => {
    const unknown = { pid: 7, id: 0, name: '', uuid: NIL_UUID, identity: Identity.UNKNOWN };
    assert.deepEqual(guessOwner(7, line('/bin/sh', '-name', 'guest=web')), unknown);
    assert.deepEqual(guessOwner(7, []), unknown);
    assert.equal(guessOwner(7, line('qemu-kvm', '-name', 'guest=a', '-uuid', 'no')).uuid, NIL_UUID);
  });

  it('reads the command line of another one once, and does not wait for it', async () => {
    const batches: (readonly number[])[] = [];
    const lines = new CommandLines(async (pids) => {
      batches.push(pids);
      return Promise.resolve({
        words: new Map(pids.map((pid) => [pid, line('/usr/bin/qemu-system-x86_64', '-name', `guest=web${pid}`)])),
        hangsAt: undefined,
      });
    });
    const owners = [9, 10, 9].map(unknownOwner);
    const all = owners.map(async (owner) => {
      await new Promise<void>((done) => {
        lookForOwner(owner, done, lines);
      });
    });
    assert.deepEqual(
      owners.map((owner) => [isDescribed(owner), describeOwner(owner).identity]),
      owners.map(() => [false, Identity.UNKNOWN]),
    );
    await Promise.all(all);
    assert.deepEqual(
      owners.map((owner) => [isDescribed(owner), describeOwner(owner).name]),
      [
        [true, 'web9'],
        [true, 'web10'],
        [true, 'web9'],
      ],
    );
    assert.deepEqual(batches, [[9, 10]]);
  });

  it('gives up the process that hangs, and reads those behind it', async () => {
    const asked: (readonly number[])[] = [];
    const lines = new CommandLines(async (pids) => {
      asked.push(pids);
      const hung = pids.indexOf(2);
      const readable = hung < 0 ? pids : pids.slice(0, hung);
      const words = new Map(readable.map((pid) => [pid, line(`program${pid}`)]));
      return Promise.resolve({ words, hangsAt: hung < 0 ? undefined : hung });
    });
    const read = async (pid: number): Promise<readonly string[]> =>
      new Promise((done) => {
        lines.read(pid, done);
      });
    assert.deepEqual(await Promise.all([1, 2, 3].map(read)), [['program1'], [], ['program3']]);
    assert.deepEqual(asked, [[1, 2, 3], [3]]);
  });

  it('reads real processes', async () => {
    const lines = new CommandLines();
    const own = await new Promise<readonly string[]>((done) => {
      lines.read(process.pid, done);
    });
    assert.deepEqual(own, commandLineOf(process.pid));
    const none = await new Promise<readonly string[]>((done) => {
      lines.read(0x7fffffff, done);
    });
    assert.deepEqual(none, []);
  });
});
