/** A sample of `npm run life`, and proof that it finds faults. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { Mutants } from '../../wire/programs/conformance/mutants/build.ts';
import { mutant } from '../../wire/programs/conformance/mutants/mutant.ts';
import { missingDaemon, missingCompiler, missingFuse } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';
import type { EndFacts, RivalLine } from './facts.ts';
import { subjectAt } from './hosts.ts';
import { isWrongGrant, judge } from './judge.ts';
import { UsageError } from '../../../src/lab/command-line.ts';
import { parseOptions } from './options.ts';
import { type EndPlan, nameOf, roundOf, ways, waysNamed } from './plan.ts';
import { run } from './run.ts';

const SEED = 15;

describe('the plan of owners that end', () => {
  it('is the same for the same seed, and another for another', () => {
    assert.deepEqual(roundOf(SEED, 3, ways), roundOf(SEED, 3, ways));
    assert.notDeepEqual(roundOf(SEED, 3, ways), roundOf(SEED + 1, 3, ways));
  });

  it('has every way to end once in every nine rounds', () => {
    const ends = Array.from({ length: 9 }, (_, index) => roundOf(SEED, index, ways).ends).flat();
    assert.deepEqual(ends.map(({ way }) => nameOf(way)).sort(), ways.map(nameOf).sort());
  });

  it('never mixes the end of the daemon with that of owners alone', () => {
    for (let index = 0; index < 50; index++) {
      const { ends, daemonEnds } = roundOf(SEED, index, ways);
      assert.ok(ends.every(({ way }) => way.cause.startsWith('daemon-end') === daemonEnds));
    }
  });
});

describe('the command line of npm run life', () => {
  it('refuses what it does not know', () => {
    for (const args of [['--ends', '0'], ['--seed', 'x'], ['--ways', 'close,nonsense'], ['--nonsense'], ['word']]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
  });

  it('takes ways by their cause, behaviour or name', () => {
    const named = (list: string): string[] => parseOptions(['--ways', list]).ways.map(nameOf);
    assert.deepEqual(named('helper,close/hung'), ['close/hung', 'helper/dies']);
    assert.equal(parseOptions([]).ways.length, ways.length);
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const life = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [join(checkout, 'test/campaigns/life/main.ts'), ...args], {
        encoding: 'utf8',
      });
    const { status, stdout } = life('--help');
    assert.equal(status, 0);
    for (const option of ['--ends', '--seed', '--from', '--daemon', '--ways', '--json'])
      assert.ok(stdout.includes(option));
    assert.equal(life('--ends', 'none').status, 2);
  });
});

describe('the judge of an end', () => {
  const plan: EndPlan = {
    way: { cause: 'close', behaviour: 'ignores' },
    place: 'direct',
    shared: false,
    disks: 1,
    byProxy: false,
    delay: 0,
    hangs: 'write',
    pause: 0,
    rivals: [{ host: 'other', does: 'acquire', alias: 'name', disk: 0, patience: 0 }],
  };
  const grant = (at: number, gone: boolean): RivalLine => ({
    is: 'answer',
    rival: 0,
    sent: at,
    at,
    code: 0,
    gone,
    by: 'writer',
  });
  const kinds = (lines: readonly RivalLine[], last: EndFacts['last'][number]): string[] =>
    judge({ plan, began: 0, hungUp: 0, lines, last: [last], problems: [] }, false).map(({ kind }) => kind);
  const byRival = { byWriter: false, counter: 0, at: 0 };

  it('finds nothing wrong about a grant after the owner is gone', () => {
    assert.deepEqual(kinds([{ is: 'gone', at: 5 }, grant(6, true)], byRival), []);
  });

  it('finds a grant before it is', () => {
    assert.deepEqual(kinds([grant(4, false), { is: 'gone', at: 5 }], byRival), ['granted while the owner lives']);
  });

  it("finds a writer's counter in the place of a rival's mark", () => {
    const last = { byWriter: true, counter: 9, at: 7 };
    assert.deepEqual(kinds([{ is: 'gone', at: 5 }, grant(6, true)], last), ['written after the grant']);
  });
});

describe('disks of owners that end', function () {
  this.timeout(180_000);
  let mutants: Mutants;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingFuse(), missingCompiler());
    mutants = new Mutants();
  });

  after(() => {
    (mutants as Mutants | undefined)?.remove();
  });

  it('are granted to nobody while their owner can write: 25 ends of a seed', async () => {
    const report = await run({ subject: subjectAt(), seed: SEED, ends: 25, from: 0, ways });
    assert.deepEqual(report.findings, []);
    assert.ok(report.ends >= 25 && report.grants > 0 && report.restarts > 0);
  });

  it('are seen to be granted too early where the end of a connection frees them, as it did in the first release', async () => {
    const program = await mutants.program(
      mutant(
        "an owner's locks are free when its connection ends",
        'src/lockd/owner-reaper.ts',
        'onRecord();\n    end.proceed();',
        'onRecord();\n    end.proceed();\n    this.onGone(end);',
        [],
      ),
    );
    const among = waysNamed(['close/flushes', 'bad-length/flushes', 'disconnect/flushes']);
    const report = await run({ subject: subjectAt(program), seed: SEED, ends: 3, from: 0, ways: among });
    assert.equal(report.wrongEnds, 3);
    assert.ok(report.findings.some((finding) => isWrongGrant(finding) && finding.kind === 'written after the grant'));
  });
});
