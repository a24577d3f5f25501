/** A sample of `npm run hosts`, and proof that it finds differences. */
import assert from 'node:assert/strict';
import { UsageError } from '../../../src/lab/command-line.ts';
import { missingDaemon, missingGluster, missingGuests } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { faultsOf, TwoHosts } from '../../support/two-hosts.ts';
import { differences, recorded } from './compare.ts';
import { pairNamed, parseOptions } from './options.ts';
import { type Outcome, play as playScenes } from './scene.ts';

describe('the command line of npm run hosts', () => {
  it('refuses what it does not know', () => {
    for (const args of [
      ['--pairs', 'C/D'],
      ['--places', 'nowhere'],
      ['--rounds', '0'],
      ['--record', '--pairs', 'ours/C'],
      ['x'],
    ])
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
  });

  it('records C alone', () => {
    assert.deepEqual(parseOptions(['--record']).pairs, [['9.0.0', '9.0.0']]);
    assert.equal(parseOptions([]).pairs.length, 4);
  });
});

describe('the comparison with C', () => {
  it('finds a lock too many, another error and a missing step', () => {
    const expected = recorded('direct');
    assert.deepEqual(differences(expected, expected), []);
    const [first, second, ...others] = expected;
    assert.ok(first !== undefined && second !== undefined);
    const changed = [
      { ...first, locks: { ...first.locks, other: 'node8 WRITE' } },
      { ...second, message: 'error: resource busy' },
      ...others.slice(0, -1),
    ];
    assert.deepEqual(
      differences(changed, expected).map(({ step }) => step),
      [first.step, second.step, expected.at(-1)?.step],
    );
  });

  it('takes a guest that keeps its locks where the one with C runs without, and nothing else', () => {
    const expected = recorded('direct');
    const index = expected.findIndex(({ faults }) => faults.length > 0);
    const [before, fault] = [expected[index - 1], expected[index]];
    assert.ok(before !== undefined && fault !== undefined);
    const play = (changes: Partial<Outcome>): string[] =>
      differences(expected.with(index, { ...fault, ...changes }), expected).map(({ step }) => step);
    assert.deepEqual(play({ faults: [], locks: before.locks }), []);
    assert.deepEqual(play({ faults: [] }), [fault.step]);
    assert.deepEqual(play({ locks: before.locks }), [fault.step]);
    assert.deepEqual(play({ faults: [], locks: before.locks, code: 0 }), [fault.step]);
  });

  it('finds a guest that runs twice, or without its lock', () => {
    const locks = [
      { host: 'node7', from: 0, to: 10 },
      { host: null, from: 11, to: 12 },
      { host: 'node8', from: 13, to: 30 },
    ] as const;
    const kinds = (...runs: { host: 'node7' | 'node8'; from: number; to: number }[]): string[] =>
      faultsOf({ runs, locks }).map(({ kind }) => kind);
    assert.deepEqual(kinds({ host: 'node7', from: 0, to: 10.5 }, { host: 'node8', from: 12.5, to: 30 }), []);
    assert.deepEqual(kinds({ host: 'node7', from: 0, to: 11 }), ['runs on node7 while nobody has its lock']);
    assert.deepEqual(kinds({ host: 'node7', from: 20, to: 21 }), ['runs on node7 while node8 has its lock']);
    assert.deepEqual(kinds({ host: 'node8', from: 14, to: 16 }, { host: 'node8', from: 15, to: 17 }), [
      'runs on node8 and node8',
    ]);
  });
});

describe('a guest on two hosts with one GlusterFS', function () {
  this.timeout(180_000);
  let hosts: TwoHosts | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'), missingGuests(), missingGluster());
    hosts = await TwoHosts.open();
  });

  after(async () => {
    await hosts?.close();
  });

  for (const [name, place] of [
    ['ours/C', 'direct'],
    ['C/ours', 'indirect'],
    ['ours/ours', 'indirect'],
  ] as const)
    it(`has its locks as with C at each step: ${name}, ${place}`, async () => {
      assert.ok(hosts !== undefined);
      const outcomes = await playScenes(hosts, { pair: pairNamed(name), place, restarts: false });
      assert.deepEqual(differences(outcomes, recorded(place)), []);
    });
});
