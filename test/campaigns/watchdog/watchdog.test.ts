/** The parts of `npm run etcd:watchdog` that need no virtual machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { type Fact, factIn, type Reset } from './facts.ts';
import { judge } from './judge.ts';
import { parseOptions } from './options.ts';
import { sceneNames } from './plan.ts';

describe('the command line of npm run etcd:watchdog', () => {
  it('refuses unknown options and values', () => {
    for (const args of [['--scenes', 'frozen,nonsense'], ['--limit', '0'], ['--nonsense'], ['word']])
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    assert.deepEqual(parseOptions(['--scenes', 'hang,life']).scenes, ['hang', 'life']);
    assert.deepEqual(parseOptions([]).scenes, sceneNames);
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const main = join(checkout, 'test/campaigns/watchdog/main.ts');
    const run = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [main, ...args], { encoding: 'utf8' });
    const { status, stdout } = run('--help');
    assert.equal(status, 0);
    for (const word of ['--scenes', '--limit', '--words', '--json', ...sceneNames])
      assert.ok(stdout.includes(word), word);
    assert.equal(run('--limit', 'none').status, 2);
  });
});

describe('the judge of npm run etcd:watchdog', () => {
  const done: Fact = { is: 'done' };
  const reset: Reset = { scene: 'frozen', byWatchdog: true, seconds: 7, left: 20 };
  const kinds = (resets: readonly Reset[], facts: readonly Fact[] = [done]): string[] =>
    judge(['life', 'frozen'], [{ is: 'ended', scene: 'life' }, ...facts], resets).map(({ kind }) => kind);

  it('finds nothing where the machine was reset as it was to be', () => {
    assert.deepEqual(kinds([reset]), []);
    const byItself = { ...reset, scene: 'unkillable', byWatchdog: false } as const;
    assert.deepEqual(judge(['unkillable'], [done], [byItself]), []);
  });

  it('finds a reset that did not come, came too early or too late, twice, or by something else', () => {
    assert.deepEqual(kinds([]), ['no reset']);
    assert.deepEqual(kinds([{ ...reset, seconds: undefined }]), ['reset too early']);
    assert.deepEqual(kinds([{ ...reset, left: undefined }]), ['reset too late']);
    assert.deepEqual(kinds([{ ...reset, byWatchdog: false }]), ['reset by something else']);
    assert.deepEqual(kinds([reset, reset]), ['reset']);
  });

  it('finds resets where the machine was to go on', () => {
    assert.deepEqual(kinds([{ ...reset, scene: 'life' }, reset]), ['reset']);
    assert.deepEqual(kinds([{ ...reset, scene: undefined }, reset]), ['reset']);
  });

  it('finds what failed inside, what was broken off or not played, and a machine that did not come to its end', () => {
    const checked: Fact = { is: 'checked', scene: 'life', what: 'it is so', ok: false, detail: '' };
    assert.deepEqual(kinds([reset], [checked, done]), ['not so: it is so']);
    assert.deepEqual(kinds([], [{ is: 'ended', scene: 'frozen', error: 'late' }, done]), ['scene broken off']);
    assert.deepEqual(kinds([reset], []), ['not to the end']);
    assert.deepEqual(
      judge(['life'], [done], []).map(({ kind }) => kind),
      ['scene not played'],
    );
  });
});

describe('a line of the virtual machine', () => {
  it('is a fact, or something else that was printed', () => {
    const fact: Fact = { is: 'armed', scene: 'hang' };
    assert.deepEqual(factIn(`${JSON.stringify(fact)}\r`), fact);
    for (const line of ['', 'null', '{"is":"nonsense"}', '[   1.0] Linux']) assert.equal(factIn(line), undefined, line);
  });
});
