import assert from 'node:assert/strict';
import type { Environment } from '../../../../src/programs/virtlockd/systemd.ts';
import { type Repeat, Watchdog } from '../../../../src/programs/virtlockd/watchdog.ts';

describe('the watchdog', () => {
  const PID = 42;

  class Scene {
    readonly sent: string[] = [];
    readonly environment: Environment;
    isSafe = true;
    isSending = false;
    /** In milliseconds; undefined while no timer runs. */
    every: number | undefined;
    #tick: () => void = () => undefined;
    readonly watchdog: Watchdog;

    constructor(environment: Environment = { WATCHDOG_USEC: '30000000', WATCHDOG_PID: String(PID) }) {
      this.environment = { ...environment };
      const repeat: Repeat = (callback, ms) => {
        this.#tick = callback;
        this.every = ms;
        return {
          stop: () => {
            this.every = undefined;
          },
        };
      };
      this.watchdog = new Watchdog(this.environment, PID, {
        everyLockWouldOutlive: () => this.isSafe,
        isSending: () => this.isSending,
        notify: (state) => this.sent.push(state),
        repeat,
      });
    }

    tick(): string[] {
      this.#tick();
      return this.sent.splice(0);
    }
  }

  it('is fed twice in its time, from the start on', () => {
    const scene = new Scene();
    assert.deepEqual(scene.environment, {}, 'no child is to take it for its own');
    scene.watchdog.start();
    assert.deepEqual(scene.sent.splice(0), ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
    assert.equal(scene.every, 15_000);
    assert.deepEqual(scene.tick(), ['WATCHDOG=1']);
    assert.deepEqual(scene.tick(), ['WATCHDOG=1']);
  });

  it('is off while a lock would end with the daemon, at once and until that has gone', () => {
    const scene = new Scene();
    scene.watchdog.start();
    scene.sent.length = 0;
    scene.isSafe = false;
    scene.watchdog.update();
    assert.deepEqual(scene.sent.splice(0), ['WATCHDOG_USEC=0']);
    assert.deepEqual(scene.tick(), []);
    scene.isSafe = true;
    assert.deepEqual(scene.tick(), ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
    scene.isSafe = false;
    assert.deepEqual(scene.tick(), ['WATCHDOG_USEC=0'], 'where nobody has called update');
  });

  it('is off while descriptors wait to be sent from one feed to the next, and not for those of a moment', () => {
    const scene = new Scene();
    scene.watchdog.start();
    scene.sent.length = 0;
    scene.isSending = true;
    scene.watchdog.update();
    assert.deepEqual(scene.sent, []);
    assert.deepEqual(scene.tick(), ['WATCHDOG=1']);
    scene.isSending = false;
    assert.deepEqual(scene.tick(), ['WATCHDOG=1']);
    scene.isSending = true;
    assert.deepEqual(scene.tick(), ['WATCHDOG=1']);
    assert.deepEqual(scene.tick(), ['WATCHDOG_USEC=0']);
    scene.watchdog.update();
    assert.deepEqual(scene.tick(), []);
    scene.isSending = false;
    assert.deepEqual(scene.tick(), ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
    scene.isSending = true;
    scene.isSafe = false;
    scene.watchdog.update();
    assert.deepEqual(scene.sent, ['WATCHDOG_USEC=0']);
  });

  it('is switched off by a daemon that starts before it has sent all', () => {
    const scene = new Scene();
    scene.isSending = true;
    scene.watchdog.start();
    assert.deepEqual(scene.sent.splice(0), ['WATCHDOG_USEC=0']);
    scene.isSending = false;
    assert.deepEqual(scene.tick(), ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
  });

  it('is switched off by a daemon that starts with such a lock', () => {
    const scene = new Scene();
    scene.isSafe = false;
    scene.watchdog.start();
    assert.deepEqual(scene.sent, ['WATCHDOG_USEC=0']);
  });

  it('is off while another program may run, which gets the time in its environment', () => {
    const scene = new Scene();
    scene.watchdog.start();
    scene.sent.length = 0;
    scene.watchdog.stop();
    assert.deepEqual(scene.sent.splice(0), ['WATCHDOG_USEC=0']);
    assert.equal(scene.every, undefined);
    scene.watchdog.update();
    scene.watchdog.stop();
    assert.deepEqual(scene.sent, []);
    const successor = new Scene(scene.watchdog.environment);
    successor.watchdog.start();
    assert.deepEqual(successor.sent, ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
    // A restart that was refused.
    scene.watchdog.start();
    assert.deepEqual(scene.sent, ['WATCHDOG_USEC=30000000', 'WATCHDOG=1']);
  });

  it('is nobody without a unit that has one, or for another process', () => {
    for (const environment of [
      {},
      { WATCHDOG_USEC: '' },
      { WATCHDOG_USEC: 'x' },
      { WATCHDOG_USEC: '1', WATCHDOG_PID: '7' },
    ]) {
      const scene = new Scene(environment);
      scene.watchdog.start();
      scene.watchdog.update();
      scene.watchdog.stop();
      assert.deepEqual(
        [scene.sent, scene.every, scene.watchdog.environment, scene.environment],
        [[], undefined, {}, {}],
      );
    }
  });
});
