/** A sample of `npm run rpm`. */
import assert from 'node:assert/strict';
import { UsageError } from '../../../src/lab/command-line.ts';
import { RpmHost } from '../../package/rpm/host.ts';
import { missingRpm } from '../../package/rpm/packages.ts';
import { skipIf } from '../../support/skip.ts';
import { parseOptions } from './options.ts';
import { run } from './run.ts';

describe('the command line of npm run rpm', () => {
  it('refuses what it does not know', () => {
    for (const args of [['--steps', 'purge'], ['--points', '0'], ['--points', '1', '--sample', '2'], ['x']])
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
  });

  it('interrupts every step at every point', () => {
    const { steps, points, sample } = parseOptions([]);
    assert.deepEqual([steps.length, points, sample], [6, [], 0]);
  });
});

describe('rpm, killed', function () {
  this.timeout(400_000);

  it('loses nothing at a scriptlet or command of each step, and goes on when it is run again', async function () {
    skipIf(this, missingRpm());
    const { points, killed, faults } = await run(async () => RpmHost.open(), parseOptions(['--sample', '1']));
    assert.deepEqual(faults, []);
    assert.equal(killed, 6);
    for (const [step, count] of Object.entries(points)) assert.ok(count > 5, `${step}: only ${count} points`);
  });
});
