/** Every check, of this project's daemon in every dialect and of the C daemon. */
import assert from 'node:assert/strict';
import type { Check, Result } from '../../../../src/programs/conformance/check.ts';
import { checks } from '../../../../src/programs/conformance/checks.ts';
import { readRecording } from '../../../../src/programs/conformance/exchange/recording.ts';
import { type Generation, type DaemonKind, generations } from '../../../../src/lab/generation.ts';
import { run } from '../../../../src/programs/conformance/run.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { openTarget } from './target.ts';

/** How many daemons run at a time. */
const JOBS = 3;

/** Makes the checks while the tests, one a check, wait for theirs. */
function suite(title: string, kind: DaemonKind, generation: Generation, made: readonly Check[]): void {
  describe(title, function () {
    this.timeout(280_000);
    const results = new Map<string, PromiseWithResolvers<Result>>();
    let whole: Promise<unknown> = Promise.resolve();

    before(function () {
      skipIf(this, missingDaemon(kind));
      for (const { name } of made) results.set(name, Promise.withResolvers());
      const open = async () => openTarget(kind, generation);
      const onResult = (result: Result): void => {
        results.get(result.name)?.resolve(result);
      };
      whole = run({ checks: made, open, generation, jobs: JOBS, onResult }).catch((error: unknown) => {
        for (const { promise, reject } of results.values()) {
          promise.catch(() => undefined);
          reject(error);
        }
      });
    });

    after(async () => whole);

    for (const { name } of made) {
      it(name, async () => {
        const result = await results.get(name)?.promise;
        assert.ok(result !== undefined);
        if (result.verdict === 'fail' && kind !== 'ours' && result.known !== undefined) return;
        if (result.expected !== undefined) assert.deepEqual(result.seen, result.expected);
        assert.equal(result.verdict, 'pass', result.detail);
      });
    }
  });
}

const everything = checks.filter(({ group }) => group !== 'inquire');

suite('every check of this daemon, speaking as 12.8.0', 'ours', '12.8.0', checks);
suite('every check of this daemon, speaking as 9.0.0', 'ours', '9.0.0', everything);
for (const generation of generations) {
  if (generation === '9.0.0' || generation === '12.8.0') continue;
  // Exchanges like those of another version are checked in its dialect.
  const own = readRecording(generation).exchanges;
  const recorded = checks.filter((check) => 'exchange' in check && own[check.exchange.name] !== undefined);
  suite(`what is particular to ${generation}, of this daemon speaking so`, 'ours', generation, recorded);
}
suite('every check of the C daemon 9.0.0, but for known defects', '9.0.0', '9.0.0', everything);
