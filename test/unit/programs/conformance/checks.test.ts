import assert from 'node:assert/strict';
import { groups, slug } from '../../../../src/programs/conformance/check.ts';
import { checks } from '../../../../src/programs/conformance/checks.ts';
import { readTranscripts } from '../../../../src/programs/conformance/exchange/recording.ts';
import { exchanges } from '../../../../src/programs/conformance/exchanges.ts';
import { generationNamed, generationOf, generations } from '../../../../src/lab/generation.ts';
import { defectIn, Judge } from '../../../../src/programs/conformance/judge.ts';

describe('the checks', () => {
  it('are many, of every group', () => {
    assert.ok(checks.length >= 250);
    for (const group of groups) {
      assert.ok(
        checks.some((check) => check.group === group),
        group,
      );
    }
  });

  for (const { name, group, promise } of checks) {
    it(`${name} has a name and a promise`, () => {
      assert.equal(checks.filter((other) => other.name === name).length, 1);
      assert.match(name, /^[a-z-]+\/[a-z0-9]+(-[a-z0-9]+)*$/);
      assert.ok(name.startsWith(`${group}/`));
      assert.match(promise, /^[A-Z0-9].*[A-Za-z0-9).]\.$/s);
      assert.doesNotMatch(promise, /undefined|\$\{/);
    });
  }

  it('tell -1 from 1 by name', () => {
    assert.equal(slug('procedure -1'), 'procedure-minus-1');
    assert.equal(slug('/a and /a/ are two'), 'a-and-a-are-two');
  });

  for (const generation of generations) {
    it(`are recorded of ${generation}`, () => {
      const recorded = readTranscripts(generation);
      assert.deepEqual([...recorded.keys()].sort(), exchanges.map(({ name }) => name).sort());
      const judge = new Judge(generation);
      for (const exchange of exchanges) assert.ok(judge.expect(exchange) !== undefined, exchange.name);
    });
  }

  it('leave nothing behind in a daemon that is not ours', () => {
    const harmless = checks.filter((check) => check.harmless === true);
    assert.ok(harmless.length >= 250);
    const transcripts = readTranscripts('9.0.0');
    for (const check of harmless) {
      if (!('exchange' in check)) continue;
      assert.ok(check.exchange.fresh !== true && check.exchange.spoils !== true, check.name);
      assert.doesNotMatch(transcripts.get(check.exchange.name)?.join('\n') ?? '', /CALL lock [38] /);
    }
  });
});

describe('a wrong transcript', () => {
  const expecting = (mayCrash: boolean) => ({ right: ['a'], known: { seen: ['b'], why: 'C forgets', mayCrash } });

  it('is a known defect when C was recorded so', () => {
    assert.equal(defectIn(['b'], expecting(false)), 'C forgets');
    assert.equal(defectIn(['c'], expecting(false)), undefined);
    assert.equal(defectIn(['b'], { right: ['a'] }), undefined);
  });

  it('is one when the daemon has crashed where C reads freed memory, and nowhere else', () => {
    for (const crash of ['daemon ended: SIGSEGV', 'daemon ended: SIGABRT']) {
      assert.equal(defectIn(['a', crash], expecting(true)), 'C forgets');
      assert.equal(defectIn(['a', crash], expecting(false)), undefined);
    }
    assert.equal(defectIn(['a', 'daemon ended: SIGTERM'], expecting(true)), undefined);
  });
});

describe('the generation that a daemon is judged by', () => {
  const cases: readonly (readonly [number, string])[] = [
    [12_008_000, '12.8.0'],
    [99_000_000, '12.8.0'],
    [12_007_999, '11.3.0'],
    [9_000_000, '9.0.0'],
    [8_999_999, '7.0.0'],
    [1, '7.0.0'],
  ];
  for (const [version, generation] of cases) {
    it(`of ${version} is ${generation}`, () => {
      assert.equal(generationOf(version), generation);
    });
  }

  it('is read from a version', () => {
    assert.equal(generationNamed('10.5.0'), '9.0.0');
    assert.throws(() => generationNamed('ten'), /is no version/);
  });
});
