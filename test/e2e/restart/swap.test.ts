/**
 * Exchanges the lock daemon under running guests, by another program at its path and SIGUSR1: from C to this one, to itself ten
 * times, back to C, and to this one again, in one process. With each generation's own libvirtd, QEMU and C daemon.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { type LockDaemon, programOf, reexecute, startDaemon, displace, C_PROGRAM } from '../../../src/lab/start.ts';
import { indirectName, makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { type LockRow, lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { type Generation, generations } from '../../../src/lab/generation.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { type Peer, lock, shared } from '../../../src/lab/wire.ts';
import { underTest } from '../under-test.ts';

/** A name that no daemon writes as it is: C 11.3.0 dies of such letters in the state, unless they are escaped. */
const foreign = 'größe 磁盘 💾';

/** The exchanges of one run; 'ours' is the C daemon too when that is under test. */
type Step = 'ours' | 'C';
const toItself = Array.from({ length: 10 }, (): Step => 'ours');

/**
 * The C daemon 7.0.0 neither hands over (it closes its listening sockets first, fails on them and exits) nor takes over (it
 * crashes on any document with a lock in it). There this daemon serves a libvirt of that age, and keeps its locks from C.
 */
const runs: Readonly<Record<Generation, readonly [first: Step, ...then: Step[]]>> = {
  '7.0.0': ['ours', ...toItself],
  '9.0.0': ['C', 'ours', ...toItself, 'C', 'ours'],
  '11.3.0': ['C', 'ours', ...toItself, 'C', 'ours'],
  '12.8.0': ['C', 'ours', ...toItself, 'C', 'ours'],
};

for (const generation of generations) describeSwaps(generation);

describe('the C daemon 7.0.0', () => {
  it('exits on SIGUSR1 and loses its locks: there is no way from it but a restart', async function () {
    skipIf(this, missingDaemon('7.0.0'));
    const daemon = await startDaemon('7.0.0');
    try {
      process.kill(daemon.pid, 'SIGUSR1');
      await daemon.process.exited;
      assert.match(daemon.log, /Cannot disable close-on-exec flag on socket -1: Bad file descriptor/);
      assert.deepEqual(daemon.locks(), []);
    } finally {
      await daemon.stop();
    }
  });
});

function describeSwaps(generation: Generation): void {
  describe(`live swaps under guests, with libvirt ${generation}`, function () {
    this.timeout(120_000);
    let lab: Lab;
    let daemon: LockDaemon;
    let libvirtd: Libvirtd;
    let held: LockRow[];
    /** Connections from before the first swap: one holds locks, one is restricted. */
    let holder: Peer;
    let restricted: Peer;
    let leases: string;
    let indirect: string;
    const [first, ...steps] = runs[generation];
    const program = (step: Step): string => (step === 'C' || underTest !== 'ours' ? C_PROGRAM : programOf('ours'));
    const image = (name: string): string => join(lab.directory, `${name}.img`);

    before(async function () {
      skipIf(this, missingDaemon(generation), missingDaemon(underTest), missingGuests(generation));
      if (generation === '7.0.0') skipIf(this, underTest === 'ours' ? undefined : 'C 7.0.0 does not survive SIGUSR1');
      lab = await openLab(generation);
      displace(lab, program(first));
      daemon = await startDaemon(first === 'C' ? generation : underTest, { lab, program: PROGRAM });
      leases = join(lab.directory, 'leases');
      indirect = join(lab.directory, 'indirect');
      mkdirSync(indirect, { mode: 0o700 });

      holder = await daemon.connect();
      await holder.must(lock.register({ pid: 5_000_000, name: foreign }));
      await holder.must(lock.createLockspace(leases));
      await holder.must(lock.createResource(leases, 'key'));
      writeFileSync(image(foreign), '');
      writeFileSync(image('read'), '');
      await holder.must(lock.acquire('', image(foreign)));
      await holder.must(lock.acquire('', image('read'), shared));
      await holder.must(lock.acquire('', image('read'), shared));
      restricted = await daemon.connect();
      await restricted.must(lock.register({ pid: 5_000_001, name: 'restricted' }));
      await restricted.must(lock.restrict());

      libvirtd = new Libvirtd(lab);
      await libvirtd.start();
      for (const name of ['plain', 'shared', 'readonly', 'lease', 'indirect']) makeImage(lab.directory, `${name}.img`);
      await libvirtd.run({ name: 'plain', disks: [{ image: image('plain') }] });
      for (const name of ['shared1', 'shared2']) {
        await libvirtd.run({ name, disks: [{ image: image('shared'), access: 'shareable' }] });
      }
      const readonly = { image: image('readonly'), access: 'readonly' } as const;
      const lease = { lockspace: 'leases', key: 'key', target: lab.directory };
      await libvirtd.run({ name: 'lease', disks: [readonly], leases: [lease] });
      // The indirect lockspace is libvirtd's setting: guests started before keep the locks they have.
      await libvirtd.stop();
      libvirtd = new Libvirtd(lab, { fileLockspace: indirect });
      await libvirtd.start();
      await libvirtd.run({ name: 'indirect', disks: [{ image: image('indirect') }] });
      held = locks();
      assert.equal(held.length, 6);
    });

    after(async function () {
      this.timeout(60_000);
      for (const peer of [holder, restricted] as (Peer | undefined)[]) peer?.close();
      await (libvirtd as Libvirtd | undefined)?.stop();
      await (daemon as LockDaemon | undefined)?.stop();
      await (lab as Lab | undefined)?.close();
    });

    /** All it holds but its pid file. */
    function locks(): LockRow[] {
      const { ino } = statSync(lab.outside('/run/virtlockd.pid'));
      return daemon.locks().filter(({ inode }) => inode !== ino);
    }

    /** Old connections are answered and keep what they were, second owners are refused, and no lock has changed. */
    async function everythingStays(): Promise<void> {
      writeFileSync(image('old'), '');
      await holder.must(lock.acquire('', image('old')));
      await holder.must(lock.release('', image('old')));
      assert.equal((await restricted.ask(lock.acquire('', image('old'))))?.code, 29);

      const second = await daemon.connect();
      await second.must(lock.register({ pid: 5_000_002, name: 'second' }));
      const taken: readonly [string, string][] = [
        ['', image(foreign)],
        ['', image('plain')],
        ['', image('shared')],
        [leases, 'key'],
        [indirect, indirectName(image('indirect'))],
      ];
      for (const [space, name] of taken) {
        const refusal = await second.ask(lock.acquire(space, name));
        assert.deepEqual([refusal?.code, refusal?.domain], [87, 51], name);
      }
      assert.equal((await second.ask(lock.release('', image(foreign))))?.code, 1);
      second.close();
      assert.deepEqual(locks(), held);
    }

    const temporary = async (name: string): Promise<number> =>
      libvirtd.run({ name, disks: [{ image: makeImage(lab.directory, `${name}.img`) }] });

    for (const [index, step] of steps.entries()) {
      const before = steps[index - 1] ?? first;
      it(`${index + 1}: ${before} to ${step}: locks, connections and owners stay`, async () => {
        const number = String(index);
        const [destroyed, killed] = [`destroyed${number}`, `killed${number}`];
        await temporary(destroyed);
        const killedPid = await temporary(killed);
        const files = [destroyed, killed].map((name) => join(indirect, indirectName(image(name))));

        lab.install(program(step));
        await reexecute(daemon);
        const words = readFileSync(`/proc/${daemon.pid}/cmdline`, 'latin1').split('\0');
        const runsNode = words.some((word) => word.endsWith('/node'));
        assert.equal(runsNode, step === 'ours' && underTest === 'ours', words.join(' '));

        for (const file of files) assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
        await libvirtd.must('destroy', destroyed);
        process.kill(killedPid, 'SIGKILL');
        // Their lock files go with the locks; the other rows are the same as before all swaps.
        await eventually('the ended guests are free', () => locks().length === held.length, 5_000);
        assert.deepEqual(locks(), held);
        assert.equal(lockOn(daemon.pid, lab.outside('/run/virtlockd.pid')), 'WRITE 0 0');

        await everythingStays();
      });
    }

    if (generation === '7.0.0') {
      it('is not handed to the C daemon 7.0.0, which would crash on it', async () => {
        lab.install(C_PROGRAM);
        process.kill(daemon.pid, 'SIGUSR1');
        await eventually('the refusal is logged', () => daemon.log.includes('libvirt 7.0.0 cannot take over locks'));
        await everythingStays();
      });
    }

    it('serves libvirt afterwards: suspend, resume, and every guest frees what it held', async () => {
      const file = join(indirect, indirectName(image('indirect')));
      await libvirtd.must('suspend', 'indirect');
      await eventually('released', () => locks().length === held.length - 1);
      await libvirtd.must('resume', 'indirect');
      assert.equal(lockOn(daemon.pid, file), 'WRITE 0 0');
      process.kill(libvirtd.pidOf('plain'), 'SIGKILL');
      await eventually('the killed guest is free', () => lockOn(daemon.pid, image('plain')) === undefined, 1_000);
      await libvirtd.must('destroy', 'shared1');
      assert.equal(lockOn(daemon.pid, image('shared')), 'READ 0 0');
      for (const name of ['shared2', 'lease', 'indirect']) await libvirtd.must('destroy', name);
      await eventually('only the stand-in holds', () => locks().length === 2, 5_000);
      await holder.must(lock.release('', image('read')));
      assert.equal(lockOn(daemon.pid, image('read')), 'READ 0 0');
      await holder.must(lock.release('', image('read')));
      await holder.must(lock.release('', image(foreign)));
      assert.deepEqual(locks(), []);
      holder.close();
      restricted.close();
      await libvirtd.stop();
      const { code, signal } = await daemon.stop();
      assert.deepEqual([code, signal], [0, null]);
    });
  });
}
