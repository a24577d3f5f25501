import assert from 'node:assert/strict';
import { giveBack, watch } from '../../../src/daemon/spare-memory.ts';

describe('spare memory', () => {
  const now = { load: 0, gone: 0, rounds: 0 };
  const host = { load: () => now.load, gone: () => now.gone, rounds: () => now.rounds };
  beforeEach(() => {
    Object.assign(now, { load: 0, gone: 0, rounds: 0 });
  });

  it('is given back once when many have gone, and again when as many more have', () => {
    const isTime = watch(host);
    assert.equal(isTime(), false);
    now.gone = 1000;
    assert.deepEqual([isTime(), isTime()], [true, false]);
    now.gone = 1999;
    assert.equal(isTime(), false);
    now.gone = 2000;
    assert.equal(isTime(), true);
  });

  it('is not given back while requests come', () => {
    const isTime = watch(host);
    Object.assign(now, { gone: 5000, rounds: 21 });
    assert.equal(isTime(), false);
    now.rounds = 40;
    assert.equal(isTime(), true);
  });

  it('is not given back while too many are left', () => {
    const isTime = watch(host);
    Object.assign(now, { gone: 10_000, load: 2501 });
    assert.equal(isTime(), false);
    now.load = 2500;
    assert.equal(isTime(), true);
    Object.assign(now, { gone: 100_000, load: 4001 });
    assert.equal(isTime(), false);
  });

  it('leaves everything in working order', async () => {
    await giveBack();
    await giveBack();
    assert.equal(watch(host)(), false);
  });
});
