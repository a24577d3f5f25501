/** The parts of `npm run arm64` that need no emulation. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { type CheckResult, compare, countsOf } from './conformance.ts';
import { answersIn, differencesOf } from './emulation.ts';
import { type Fact, factIn, judge } from './facts.ts';
import { parseOptions, parts } from './options.ts';

describe('the command line of npm run arm64', () => {
  it('refuses unknown options and values', () => {
    for (const args of [
      ['--parts', 'machine,none'],
      ['--daemons', 'own,theirs'],
      ['--limit', '0'],
      ['--nonsense'],
      ['word'],
    ]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
    const options = parseOptions(['--parts', 'conformance', '--only', 'wire', '--only', 'admin']);
    assert.deepEqual([options.parts, options.only], [['conformance'], ['wire', 'admin']]);
    assert.deepEqual(options.daemons, ['own', 'libvirt']);
    assert.deepEqual(parseOptions(['--daemons', 'libvirt']).daemons, ['libvirt']);
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const arm64 = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [join(checkout, 'test/campaigns/arm64/main.ts'), ...args], {
        encoding: 'utf8',
      });
    const { status, stdout } = arm64('--help');
    assert.equal(status, 0);
    for (const word of ['--parts', '--only', '--daemons', '--limit', '--words', '--json', ...Object.keys(parts)]) {
      assert.ok(stdout.includes(word), word);
    }
    assert.equal(arm64('--limit', 'none').status, 2);
  });
});

describe('the judge of npm run arm64', () => {
  const done: Fact = { is: 'done', kernel: '6.1.0', asked: 1 };
  const checked = (ok: boolean): Fact => ({ is: 'checked', step: 'a step', what: 'it is so', ok, detail: 'seen' });

  it('finds nothing in an ordinary run', () => {
    assert.deepEqual(judge([{ is: 'begun', step: 'a step' }, checked(true), done]), []);
  });

  it('finds checks that failed, locks that were free, and an end before the end', () => {
    assert.deepEqual(judge([checked(false), done]), ['a step: not so: it is so: seen']);
    assert.deepEqual(judge([{ is: 'free', file: '/disk', ms: 3 }, done]), ['a held lock was free: /disk, for 3 ms']);
    assert.deepEqual(judge([{ is: 'broken', step: 'a step', error: 'late' }]), ['a step: broken off: late']);
    assert.deepEqual(judge([checked(true)]), ['the steps have not come to their end']);
  });

  it('knows a fact among other lines', () => {
    assert.deepEqual(factIn(`${JSON.stringify(done)}\r`), done);
    for (const line of ['', 'null', '{"is":"nonsense"}', '{"is":"done"', '[ 1.0] Linux']) {
      assert.equal(factIn(line), undefined, line);
    }
  });

  it("finds what is the emulation's, and not the kernel's", () => {
    const native = answersIn('locks\tok\nnew calls\tENOSYS\nchildren\tok\nlost\tok\n');
    const emulated = answersIn('locks\tok\nnew calls\tENOSYS\nchildren\tEINVAL\n');
    assert.deepEqual(differencesOf(native, emulated), [
      { what: 'children', emulated: 'EINVAL' },
      { what: 'lost', emulated: 'no answer' },
    ]);
    assert.throws(() => answersIn('locks\tok\nbroken off'), /broken off/);
  });

  it('finds checks that fail with this daemon alone', () => {
    const own: CheckResult[] = [
      { name: 'one', verdict: 'pass' },
      { name: 'two', verdict: 'fail' },
      { name: 'three', verdict: 'fail' },
    ];
    const libvirt: CheckResult[] = [
      { name: 'one', verdict: 'fail' },
      { name: 'two', verdict: 'fail' },
      { name: 'three', verdict: 'skip' },
    ];
    assert.deepEqual(compare({ results: { own, libvirt } }), ['three']);
    assert.deepEqual(compare({ results: { own, libvirt: [] } }), ['two', 'three']);
    assert.equal(countsOf(own), '1 pass, 2 fail');
  });
});
