import assert from 'node:assert/strict';
import { steps, watch } from '../../../../src/programs/virtlockd/spare-memory.ts';

describe('spare memory', () => {
  const now = { load: 0, gone: 0, events: 0 };
  const host = { load: () => now.load, gone: () => now.gone, events: () => now.events };
  beforeEach(() => {
    Object.assign(now, { load: 0, gone: 0, events: 0 });
  });

  it('is trimmed once whenever two looks in a row were quiet, after the start as well', () => {
    const look = watch(host);
    assert.deepEqual([look(), look(), look(), look()], [null, 'trim', null, null]);
    now.events = 21;
    assert.equal(look(), null);
    now.events = 41;
    assert.deepEqual([look(), look(), look()], [null, 'trim', null]);
  });

  it('is collected once when many have gone, and again when as many more have', () => {
    const look = watch(host);
    assert.equal(look(), null);
    now.gone = 1000;
    assert.deepEqual([look(), look(), look()], ['collect', 'trim', null]);
    now.gone = 1999;
    assert.equal(look(), null);
    now.gone = 2000;
    assert.deepEqual([look(), look(), look()], ['collect', 'trim', null]);
  });

  it('is left alone while requests come', () => {
    const look = watch(host);
    Object.assign(now, { gone: 5000, events: 21 });
    assert.equal(look(), null);
    now.events = 42;
    assert.equal(look(), null);
    now.events = 62;
    assert.equal(look(), 'collect');
    now.events = 83;
    assert.deepEqual([look(), look(), look()], [null, null, 'trim']);
  });

  it('is not collected while too many are left', () => {
    const look = watch(host);
    Object.assign(now, { gone: 10_000, load: 2501 });
    assert.equal(look(), null);
    now.load = 2500;
    assert.equal(look(), 'collect');
    Object.assign(now, { gone: 100_000, load: 4001 });
    assert.equal(look(), 'trim');
    assert.equal(look(), null);
  });

  it('leaves everything in working order', () => {
    for (const step of [steps.collect, steps.trim, steps.collect, steps.trim]) step();
    assert.equal(watch(host)(), null);
  });
});
