import assert from 'node:assert/strict';
import { Daemon } from '../../../src/daemon/daemon.ts';
import { Survival } from '../../../src/restart/survival.ts';
import type { StoreStatus } from '../../../src/store/manager.ts';
import { poller } from '../support/poller.ts';

const process = { boot: '00010203-0405-0607-0809-0a0b0c0d0e0f', start: 7 };

describe('what outlives the daemon', () => {
  const make = (): { survival: Survival; answer: (status: StoreStatus) => Promise<void> } => {
    let resolve: (status: StoreStatus) => void = () => undefined;
    const survival = new Survival({
      socket: '/nonexistent/notify',
      promised: undefined,
      identity: { process, pid: 1, restarts: 0, deaths: 0, started: 0 },
      ask: async () =>
        new Promise((given) => {
          resolve = given;
        }),
    });
    const daemon = new Daemon({
      poller,
      version: 12_008_000,
      maxClients: 100,
      adminMaxClients: 100,
      timeout: 0,
      life: { program: '', started: 0, executed: 0, restarts: 0, deaths: 0 },
      keeper: survival,
      onEnd: () => undefined,
    });
    survival.attach({ daemon, isBusy: () => false, onStore: () => undefined, onMortal: () => undefined });
    return {
      survival,
      answer: async (status) => {
        resolve(status);
        await new Promise((next) => setImmediate(next));
      },
    };
  };

  it('is nothing before it is known that there is a store', async () => {
    const { survival, answer } = make();
    survival.look();
    assert(!survival.isActive);
    await answer({ max: 10, count: 0, ended: 0 });
    assert(survival.isActive);
    assert.notEqual(survival.record, undefined);
  });

  it('does not begin to be kept while a program takes over that knows nothing of it', async () => {
    const { survival, answer } = make();
    survival.look();
    assert.equal(await survival.emptyForOther(), undefined);
    await answer({ max: 10, count: 0, ended: 0 });
    assert(!survival.isActive);
    survival.refill();
    assert(survival.isActive);
  });
});
