import assert from 'node:assert/strict';
import { generations, missingDaemon, skipIf } from '../lab/requirements.ts';
import { exchanges } from './exchanges.ts';
import { readTranscripts } from './recording.ts';
import { WireTarget } from './target.ts';

for (const version of generations) {
  describe(`recorded exchanges of the C daemon ${version}, replayed to ours`, function () {
    this.timeout(60_000);
    const transcripts = readTranscripts(version);
    let ours: WireTarget | undefined;

    before(async function () {
      skipIf(this, missingDaemon('ours'));
      ours = await WireTarget.open('ours', version);
    });

    after(async () => {
      await ours?.close();
    });

    it('are those of test/wire', () => {
      assert.deepEqual([...transcripts.keys()].sort(), exchanges.map(({ name }) => name).sort());
    });

    for (const exchange of exchanges) {
      if (exchange.deviates !== undefined) continue;
      it(exchange.name, async () => {
        assert.deepEqual(await ours?.play(exchange), transcripts.get(exchange.name));
      });
    }
  });
}
