/** Both daemons started in every way: exit codes, output, logs and files are the same. */
import assert from 'node:assert/strict';
import { cliCases } from '../../../../src/programs/conformance/groups/command-line/cases.ts';
import { Starter } from '../../../../src/programs/conformance/groups/command-line/starter.ts';
import { programOf } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { openLab } from '../../../../src/lab/trees.ts';

describe('the command line of both daemons', () => {
  const kinds = ['9.0.0', 'ours'] as const;
  const labs: Lab[] = [];
  let starters: Starter[] = [];

  before(async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'));
    for (const kind of kinds) {
      const lab = await openLab();
      labs.push(lab);
      starters = [...starters, new Starter(lab, programOf(kind), 'libvirt_version = "9.0.0"\n')];
    }
  });

  after(async () => {
    for (const lab of labs) await lab.close();
  });

  for (const one of cliCases) {
    it(one.name, async () => {
      const [theirs, ours] = await Promise.all(starters.map(async (starter) => starter.run(one)));
      assert.deepEqual(ours, theirs);
    });
  }
});
