import assert from 'node:assert/strict';
import { missingDaemon, skipIf } from '../lab/requirements.ts';
import { exchanges } from '../../src/conformance/exchanges.ts';
import type { StartedSubject } from '../../src/conformance/subject.ts';
import { openTarget } from './target.ts';

describe('differential: the C daemon 9.0.0 and ours, live', function () {
  this.timeout(60_000);
  let reference: StartedSubject | undefined;
  let ours: StartedSubject | undefined;

  before(async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'));
    [reference, ours] = await Promise.all([openTarget('9.0.0', '9.0.0'), openTarget('ours', '9.0.0')]);
  });

  after(async () => {
    await Promise.all([reference?.close(), ours?.close()]);
  });

  it('is at least 170 exchanges of the lock program and 130 of the admin program', () => {
    const admin = exchanges.filter(({ name }) => /^(SET|GET|LIST|LOOKUP|CLIENT|UPDATE|SHUTDOWN)_?/.test(name));
    assert.equal(new Set(exchanges.map(({ name }) => name)).size, exchanges.length, 'a name twice');
    assert.ok(admin.length >= 130 && exchanges.length - admin.length >= 170);
  });

  for (const exchange of exchanges) {
    it(
      exchange.defect === undefined ? exchange.name : `${exchange.name}: ours differs, ${exchange.defect}`,
      async () => {
        assert.ok(reference !== undefined && ours !== undefined);
        const [expected, actual] = await Promise.all([reference.play(exchange), ours.play(exchange)]);
        if (exchange.defect === undefined) assert.deepEqual(actual, expected);
        else assert.notDeepEqual(actual, expected);
      },
    );
  }
});
