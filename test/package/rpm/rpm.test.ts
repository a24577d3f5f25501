/** The RPM package comes and goes under a C daemon with locks, and so does libvirt's: one process all the way, and every lock. */
import { skipIf } from '../../support/skip.ts';
import { RpmHost, STEPS } from './host.ts';
import { missingRpm } from './packages.ts';

describe('the RPM package', function () {
  this.timeout(120_000);
  let host: RpmHost;

  before(async function () {
    skipIf(this, missingRpm());
    host = await RpmHost.open();
  });

  after(async () => {
    await (host as RpmHost | undefined)?.close();
  });

  for (const step of STEPS) {
    it(`${step}: the same process goes on, with every lock`, async () => {
      await host.take(step);
    });
  }
});
