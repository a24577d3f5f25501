import assert from 'node:assert/strict';
import { generations, missingDaemon, skipIf } from '../lab/requirements.ts';
import { exchanges } from '../../src/conformance/exchanges.ts';
import { readRecording, readTranscripts } from '../../src/conformance/exchange/recording.ts';
import type { StartedSubject } from '../../src/conformance/subject.ts';
import { openTarget } from './target.ts';

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
      it(exchange.name, async () => {
        assert.deepEqual(await ours?.play(exchange), transcripts.get(exchange.name));
      });
    }
  });
}
