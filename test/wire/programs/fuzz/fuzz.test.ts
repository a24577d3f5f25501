/** The fuzzer: its findings stay fixed, it shows defects of C, and short runs with a fixed seed find nothing new. */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Summary } from '../../../../src/programs/fuzz/report.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';

const fixtures = path.join(checkout, 'fixtures/fuzz');
const files = readdirSync(fixtures).sort();
/** The seed of the runs here. Change it and other inputs are tried. */
const SEED = '20261122';

function fuzz(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(path.join(checkout, 'bin/virtlockd-fuzz'), args, { encoding: 'latin1', timeout: 170_000 });
}

describe('the fuzzer', function () {
  this.timeout(180_000);
  let directory: string;

  before(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'virtlockd-fuzz-test-'));
  });
  after(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it(`finds nothing any more in the ${files.length} files of fixtures/fuzz`, function () {
    skipIf(this, missingDaemon('ours'));
    const { status, stdout, stderr } = fuzz('replay', ...files.map((file) => path.join(fixtures, file)));
    assert.equal(status, 0, stdout + stderr);
  });

  for (const file of files.filter((name) => name.startsWith('c-'))) {
    it(`shows a defect of C 9.0.0 by ${file}`, function () {
      skipIf(this, missingDaemon('9.0.0'));
      const { status, stdout, stderr } = fuzz('--daemon', '9.0.0', 'replay', path.join(fixtures, file));
      assert.equal(status, 1, stdout + stderr);
    });
  }

  it('does the same for the same seed', () => {
    const [one, two] = [1, 2].map(() => {
      const options = ['--runs', '500', '--seed', '7', '--quiet', '--findings', directory];
      const { status, stdout, stderr } = fuzz(...options, 'calls');
      assert.equal(status, 0, stderr);
      const { runs, sequences, corpus } = JSON.parse(stdout) as Summary;
      return { runs, sequences, corpus };
    });
    assert.deepEqual(one, two);
  });

  it('says 2 for a command line that it does not know, and 3 for a file that is not there', () => {
    for (const args of [['nothing'], ['--runs', 'x'], ['--unknown'], ['--daemon', '1.0.0', 'daemon']]) {
      assert.equal(fuzz(...args).status, 2, args.join(' '));
    }
    const missing = path.join(directory, 'missing.json');
    assert.equal(fuzz('replay', missing).status, 3);
    writeFileSync(missing, '{"target":"nothing","input":""}');
    assert.equal(fuzz('replay', missing).status, 2);
  });

  for (const [target, runs, ...options] of [
    ['codec', 200_000],
    ['document', 3_000],
    ['config', 20_000],
    ['filters', 20_000],
    ['outputs', 20_000],
    ['calls', 30_000],
    ['calls', 20_000, '--programs', 'lock'],
    ['daemon', 5_000],
    ['daemon', 3_000, '--against', '9.0.0', '--no-restarts', '--no-aliases'],
  ] as const) {
    it(`finds nothing in ${runs} runs of ${[target, ...options].join(' ')}`, function () {
      if (target === 'daemon') {
        skipIf(this, missingDaemon('ours'), options.length > 0 ? missingDaemon('9.0.0') : undefined);
      }
      // Whichever comes first: the number by which the seed is fixed, or the time that CI has.
      const limits = ['--runs', String(runs), '--time', '3', '--seed', SEED, '--quiet', '--findings', directory];
      const { status, stdout, stderr } = fuzz(...limits, ...options, target);
      assert.equal(status, 0, stdout + stderr);
      const summary = JSON.parse(stdout) as Summary;
      assert.ok(summary.runs > 0);
      assert.deepEqual(summary.findings, []);
    });
  }
});
