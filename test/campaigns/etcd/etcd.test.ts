/** A sample of `npm run etcd:check`, and proof that it finds faults. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { EtcdLab } from '../../../src/lab/etcd-cluster.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingCluster, missingCompiler, missingDaemon } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../../unit/support/locks.ts';
import { Mutants } from '../../wire/programs/conformance/mutants/build.ts';
import { OverlapFinder, RecordFile, RECORD_SIZE, type WriteRecord } from './checker.ts';
import { breakages } from './breakages.ts';
import { parseOptions } from './options.ts';
import { type Fault, faultNames, faultsOf } from './plan.ts';
import { run } from './run.ts';

const record = (at: number, hold: number, shared = false): WriteRecord => ({ at, hold, sequence: at, shared });

function overlapsOf(
  ...records: readonly WriteRecord[]
): (readonly [former: number, latter: number, records: number])[] {
  const finder = new OverlapFinder();
  for (const one of records) finder.add(one);
  return finder.overlaps.map(({ former, latter, records: count }) => [former, latter, count]);
}

describe('the checker of writers', () => {
  it('finds one that writes after another has begun to, once', () => {
    assert.deepEqual(overlapsOf(record(1, 1), record(2, 2), record(3, 1), record(4, 2), record(5, 1)), [[1, 2, 2]]);
  });

  it('finds nothing in turns', () => {
    assert.deepEqual(overlapsOf(record(1, 1), record(2, 1), record(3, 2), record(4, 3), record(5, 3)), []);
  });

  it('lets sharers write at once, and nobody beside an exclusive one', () => {
    const sharers = [record(1, 1, true), record(2, 2, true), record(3, 1, true)];
    assert.deepEqual(overlapsOf(...sharers), []);
    assert.deepEqual(overlapsOf(...sharers, record(4, 3), record(5, 2, true), record(6, 1, true)), [
      [2, 3, 1],
      [1, 3, 1],
    ]);
    assert.deepEqual(overlapsOf(record(1, 3), record(2, 1, true), record(3, 3)), [[3, 1, 1]]);
  });

  it('reads a file as it grows, whole records only', () => {
    const directory = temporaryDirectory();
    const path = join(directory.path, 'records');
    const bytes = (at: number, hold: number): Buffer => {
      const buffer = Buffer.alloc(RECORD_SIZE);
      buffer.writeBigUInt64LE(BigInt(at * 1e6), 0);
      buffer.writeBigUInt64LE(BigInt(hold), 8);
      return buffer;
    };
    const file = new RecordFile(path);
    file.check();
    writeFileSync(path, Buffer.concat([bytes(1, 1), bytes(2, 2), bytes(3, 1).subarray(0, 7)]));
    file.check();
    assert.deepEqual([file.finder.records, file.finder.overlaps.length], [2, 0]);
    appendFileSync(path, bytes(3, 1).subarray(7));
    file.check();
    assert.deepEqual(file.finder.overlaps, [{ former: 1, latter: 2, records: 1, from: 2, to: 3 }]);
    directory.remove();
  });
});

describe('the plan of faults', () => {
  const first = (seed: number): Fault[] => {
    const faults = faultsOf(seed, faultNames, 5);
    return Array.from({ length: 200 }, () => faults.next().value);
  };

  it('is the same for the same seed, and another for another', () => {
    assert.deepEqual(first(7), first(7));
    assert.notDeepEqual(first(7), first(8));
  });

  it('has every fault sooner or later, shorter and longer than the lease', () => {
    const faults = first(1);
    assert.deepEqual(new Set(faults.map(({ name }) => name)), new Set(faultNames));
    assert.ok(faults.some(({ duration }) => duration < 5000) && faults.some(({ duration }) => duration > 5000));
  });
});

describe('the command line of npm run etcd:check', () => {
  it('refuses what it does not know', () => {
    for (const args of [
      ['--minutes', '0'],
      ['--seed', 'x'],
      ['--faults', 'nonsense'],
      ['--stand-in-fault', 'nonsense'],
      ['--break', 'nonsense'],
      ['--daemon', 'x', '--stand-in'],
      ['--break', 'no-fencing', '--self-test'],
      ['--runs', '0'],
      ['word'],
    ]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const check = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [join(checkout, 'test/campaigns/etcd/main.ts'), ...args], {
        encoding: 'utf8',
      });
    const { status, stdout } = check('--help');
    assert.equal(status, 0);
    for (const word of ['--seed', '--runs', '--self-test', '--minutes', '--json', '--faults', ...faultNames])
      assert.ok(stdout.includes(word));
    assert.equal(check('--nonsense').status, 2);
  });
});

describe('the laboratory of etcd', function () {
  this.timeout(120_000);

  before(function () {
    skipIf(this, missingCluster(), missingCompiler());
  });

  it('loses its leader to a partition, a member to a full disk, and gets both back; nothing is left of it', async () => {
    const lab = await EtcdLab.open();
    const pids = lab.members.map(({ pid }) => pid);
    try {
      const leader = await eventually('there is a leader', async () => lab.leader());
      const others = lab.members.filter((member) => member !== leader);
      const [one, other] = others;
      assert.ok(one && other);
      await leader.host.cut(others.map(({ host }) => host));
      await eventually('the others have a leader', async () => (await one.leads()) || other.leads());
      await leader.host.heal();
      await lab.healthy();
      await one.fillDisk();
      await eventually(
        'a member without room ends',
        async () => {
          // One that does not answer is another's business here.
          await other.control('put', 'key', 'x'.repeat(10_000)).catch(() => undefined);
          return !one.isRunning;
        },
        60_000,
      );
      await one.emptyDisk();
      one.start();
      await lab.healthy();
    } finally {
      await lab.close();
    }
    const left = readdirSync('/proc').map(Number);
    assert.deepEqual(
      pids.filter((pid) => pid !== undefined && left.includes(pid)),
      [],
    );
  });
});

describe('npm run etcd:check', function () {
  this.timeout(400_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingCluster(), missingCompiler());
  });

  const { signal } = new AbortController();
  const common = { seed: 1, leaseSeconds: 6, signal, endsEarly: true } as const;

  it('finds nothing in the daemon, in two minutes of all faults', async () => {
    const subject = { kind: 'daemon', program: join(checkout, 'bin/virtlockd') } as const;
    const { findings, tally, records } = await run({ ...common, minutes: 2, faults: faultNames, subject });
    assert.deepEqual(findings, []);
    assert.ok(tally.granted > 5 && records > 1000);
  });

  it('finds nothing while etcd is full now and then: owners go on, nobody gets a lock, and the daemons say why', async () => {
    const subject = { kind: 'daemon', program: join(checkout, 'bin/virtlockd') } as const;
    const { findings, tally, faults } = await run({ ...common, minutes: 0.3, faults: ['no-space'], subject });
    assert.deepEqual(findings, []);
    assert.ok((faults['no-space'] ?? 0) > 0);
    assert.equal(tally.ended, 0);
    assert.ok((tally.refused[38] ?? 0) > 0);
  });

  it('finds each daemon that is broken on purpose within five minutes, side by side', async () => {
    const built = new Mutants();
    try {
      const found = Object.entries(breakages).map(async ([name, broken]) => {
        const subject = { kind: 'daemon', program: await built.program(broken) } as const;
        const share = [built.directory];
        const { findings } = await run({ ...common, seed: 3, minutes: 5, faults: broken.faults, subject, share });
        return [name, findings[0]?.kind];
      });
      const all = Object.keys(breakages).map((name) => [name, 'two writers']);
      assert.deepEqual(await Promise.all(found), all);
    } finally {
      built.remove();
    }
  });
});
