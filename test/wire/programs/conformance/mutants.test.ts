/** Every mutant is caught by the checks that fit its fault, and the daemon without a fault passes the same checks. */
import assert from 'node:assert/strict';
import { programOf } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checksNamed, makeChecks } from './daemons.ts';
import { Mutants } from './mutants/build.ts';
import { mutants } from './mutants/index.ts';
import type { Mutant } from './mutants/mutant.ts';

/** A mutant that does not answer fails the check; how long that is waited for, in ms. */
const LIMIT = 6000;
/** How many mutants run at a time. */
const LANES = 4;

describe('deliberately broken daemons', function () {
  this.timeout(120_000);
  let built: Mutants;
  /** By the name of the mutant: the checks that should have failed and did not. */
  const passed = new Map<string, Promise<string[]>>();

  before(function () {
    skipIf(this, missingDaemon('ours'));
    built = new Mutants();
    // Several at a time, while the tests below wait for theirs: each mostly waits for its daemon to start, or to answer.
    const lanes = Array.from({ length: LANES }, () => Promise.resolve());
    mutants.forEach((mutant, index) => {
      const lane = index % LANES;
      const made = (lanes[lane] ?? Promise.resolve()).then(async () => survived(mutant));
      lanes[lane] = made.then(
        () => undefined,
        () => undefined,
      );
      passed.set(mutant.name, made);
    });
  });

  async function survived(mutant: Mutant): Promise<string[]> {
    const results = await makeChecks(await built.program(mutant), {
      checks: checksNamed(mutant.caughtBy),
      share: [built.directory],
      limit: LIMIT,
    });
    return results.filter(({ verdict }) => verdict !== 'fail').map(({ name }) => name);
  }

  after(() => {
    (built as Mutants | undefined)?.remove();
  });

  it('are many, and no two have one name', () => {
    assert.ok(mutants.length >= 24);
    assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length);
  });

  it('fail no check without their fault', async () => {
    const results = await makeChecks(programOf('ours'), {
      checks: checksNamed(mutants.flatMap(({ caughtBy }) => caughtBy)),
      jobs: 2,
    });
    const wrong = results.filter(({ verdict }) => verdict !== 'pass');
    assert.deepEqual(wrong, []);
  });

  for (const mutant of mutants) {
    it(`${mutant.name}: ${mutant.caughtBy.join(', ')}`, async () => {
      assert.deepEqual(await passed.get(mutant.name), [], 'not caught');
    });
  }
});
