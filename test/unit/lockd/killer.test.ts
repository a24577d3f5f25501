import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { killPainfully, type KillerHost, realHost } from '../../../src/lockd/killer.ts';

/** A world with one process, in which time passes when told to. */
class World implements KillerHost {
  readonly events: string[] = [];
  /** What the process does at a signal. */
  onSignal: (signal: string | 0) => void = () => undefined;
  alive = true;
  denied = false;
  start = '1000';
  now = 0;
  private timers: { at: number; callback: () => void }[] = [];

  kill(_pid: number, signal: NodeJS.Signals | 0): void {
    if (this.denied) throw Object.assign(new Error('denied'), { code: 'EPERM' });
    if (!this.alive) throw Object.assign(new Error('gone'), { code: 'ESRCH' });
    if (signal !== 0) this.events.push(`${signal} at ${this.now}`);
    this.onSignal(signal);
  }

  startTime(): string | null {
    return this.alive ? this.start : null;
  }

  setTimeout(callback: () => void, ms: number): void {
    this.timers.push({ at: this.now + ms, callback });
  }

  /** Lets everything happen. */
  run(): void {
    for (;;) {
      const next = this.timers.shift();
      if (next === undefined) return;
      this.now = next.at;
      next.callback();
    }
  }
}

function kill(world: World, pid = 4711, looks = 0): string[] {
  killPainfully({ pid, born: '1000', looks }, world, (gone) =>
    world.events.push(`${gone ? 'gone' : 'given up'} at ${world.now}`),
  );
  world.run();
  return world.events;
}

describe('the killer', () => {
  it('sends SIGTERM at once and is content when that was enough', () => {
    const world = new World();
    world.onSignal = () => {
      world.alive = false;
    };
    assert.deepEqual(kill(world), ['SIGTERM at 0', 'gone at 200']);
  });

  it('goes on where it was before a re-execution', () => {
    assert.deepEqual(kill(new World(), 4711, 6), ['SIGKILL at 400', 'given up at 1800']);
    const later = new World();
    later.start = '2000';
    assert.deepEqual(kill(later, 4711, 6), ['gone at 0']);
  });

  it('stops as soon as the process is gone', () => {
    const world = new World();
    world.onSignal = () => {
      if (world.now >= 600) world.alive = false;
    };
    assert.deepEqual(kill(world), ['SIGTERM at 0', 'gone at 800']);
  });

  it('sends SIGKILL after 1.6 s', () => {
    const world = new World();
    world.onSignal = (signal) => {
      if (signal === 'SIGKILL') world.alive = false;
    };
    assert.deepEqual(kill(world), ['SIGTERM at 0', 'SIGKILL at 1600', 'gone at 1800']);
  });

  it('gives up after 3 s', () => {
    assert.deepEqual(kill(new World()), ['SIGTERM at 0', 'SIGKILL at 1600', 'given up at 3000']);
  });

  it('finds a process gone that was so before', () => {
    const world = new World();
    world.alive = false;
    assert.deepEqual(kill(world), ['gone at 0']);
  });

  it('spares a later process of the same pid', () => {
    const world = new World();
    world.onSignal = () => {
      world.start = '2000';
    };
    assert.deepEqual(kill(world), ['SIGTERM at 0', 'gone at 200']);
  });

  it('sends nothing more to a later process, SIGKILL least of all', () => {
    const world = new World();
    world.onSignal = () => {
      // The pid changes hands just before the look that would send SIGKILL.
      if (world.now === 1400) world.start = '2000';
    };
    assert.deepEqual(kill(world), ['SIGTERM at 0', 'gone at 1600']);
  });

  it('goes on looking where it may not kill', () => {
    const world = new World();
    world.denied = true;
    assert.deepEqual(kill(world), ['given up at 3000']);
  });

  it('never touches our group, init, or ourselves', () => {
    for (const pid of [0, 1, process.pid, -5]) {
      const world = new World();
      assert.deepEqual(kill(world, pid), ['given up at 0']);
    }
  });

  it('kills a real process that ignores SIGTERM', async () => {
    const child = spawn('sh', ['-c', "trap '' TERM; echo ready; while :; do sleep 0.1; done"], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout, 'data');
    const ended = once(child, 'exit');
    const gone = await new Promise((resolve) => {
      const pid = child.pid ?? 0;
      killPainfully({ pid, born: realHost.startTime(pid), looks: 0 }, realHost, resolve);
    });
    assert.equal(gone, true);
    assert.deepEqual(await ended, [null, 'SIGKILL']);
  });

  it('knows when a real process started, and that a missing one did not', () => {
    assert.match(realHost.startTime(process.pid) ?? '', /^\d+$/);
    assert.equal(realHost.startTime(0x7fffffff), null);
  });
});
