import assert from 'node:assert/strict';
import { type Generation, generations, missingDaemon, skipIf } from '../lab/requirements.ts';
import { exchanges } from '../../src/conformance/exchanges.ts';
import { readRecording, readTranscripts } from '../../src/conformance/exchange/recording.ts';
import type { StartedSubject } from '../../src/conformance/subject.ts';
import { openTarget } from './target.ts';

/** Where our dialect of a version is not that version's to the last: it names log files as 9.0.0 does. */
const unlike: Partial<Record<Generation, readonly string[]>> = {
  '7.0.0': [
    'SET_OUTPUTS: relative files',
    'SET_OUTPUTS: paths that are not straight',
    'SET_OUTPUTS: files that cannot be opened',
  ],
};

for (const version of generations) {
  describe(`recorded exchanges of the C daemon ${version}, replayed to ours`, function () {
    this.timeout(60_000);
    const transcripts = readTranscripts(version);
    let ours: StartedSubject | undefined;

    before(async function () {
      skipIf(this, missingDaemon('ours'));
      ours = await openTarget('ours', version);
    });

    after(async () => {
      await ours?.close();
    });

    it('are those of test/wire', () => {
      assert.deepEqual([...transcripts.keys()].sort(), exchanges.map(({ name }) => name).sort());
    });

    // What went as with another version is replayed with that one.
    const own = readRecording(version).exchanges;
    for (const exchange of exchanges) {
      if (exchange.defect !== undefined || own[exchange.name] === undefined) continue;
      if (unlike[version]?.includes(exchange.name) === true) continue;
      it(exchange.name, async () => {
        assert.deepEqual(await ours?.play(exchange), transcripts.get(exchange.name));
      });
    }
  });
}
