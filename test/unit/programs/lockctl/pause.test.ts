import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { pause } from '../../../../src/programs/lockctl/context.ts';

describe('a pause', () => {
  it('leaves nothing behind on the signal that could have ended it', async () => {
    const abort = new AbortController();
    await pause(1, abort.signal);
    assert.equal(getEventListeners(abort.signal, 'abort').length, 0);
  });

  it('is ended by its signal, and leaves nothing behind either', async () => {
    const abort = new AbortController();
    const paused = pause(60_000, abort.signal);
    abort.abort();
    await paused;
    await pause(60_000, abort.signal);
    assert.equal(getEventListeners(abort.signal, 'abort').length, 0);
  });
});
