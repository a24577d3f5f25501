/** Checks run one after the other at one place: none may leave anything there that keeps the next daemon from starting. */
import assert from 'node:assert/strict';
import type { Check } from '../../../../src/programs/conformance/check.ts';
import { cliCases } from '../../../../src/programs/conformance/groups/command-line/cases.ts';
import { cliChecks } from '../../../../src/programs/conformance/groups/command-line/index.ts';
import { programOf } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checksNamed, makeChecks } from './daemons.ts';

describe('a check of the start in odd circumstances', function () {
  this.timeout(60_000);

  it('leaves a place at which the next daemon starts', async function () {
    skipIf(this, missingDaemon('ours'));
    const [next] = checksNamed(['inquire/a-cursor-is-used-once']);
    assert.ok(next !== undefined);
    const odd = cliCases.flatMap(({ prepare }, index) => (prepare === undefined ? [] : (cliChecks[index] ?? [])));
    assert.ok(odd.length > 10);
    const failures: string[] = [];
    let before = 'nothing';
    await makeChecks(programOf('ours'), {
      checks: odd.flatMap((check): Check[] => [check, next]),
      onResult: ({ name, verdict, detail }) => {
        if (verdict !== 'pass') failures.push(`${name} after ${before}: ${detail ?? verdict}`);
        before = name;
      },
    });
    assert.deepEqual(failures, []);
  });
});
