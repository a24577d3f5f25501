/** The parts of `npm run deaths` that need no machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { checkout } from '../../../src/lab/trees.ts';
import type { Facts, Operation } from './facts.ts';
import { judge } from './judge.ts';
import { parseOptions } from './options.ts';

describe('the command line of npm run deaths', () => {
  it('refuses unknown options and values', () => {
    for (const args of [['--kills', '0'], ['--seed', 'x'], ['--ways', 'kill,nonsense'], ['--nonsense'], ['word']]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
    assert.deepEqual(parseOptions(['--ways', 'kill,stop']).ways, ['kill', 'stop']);
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const deaths = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [join(checkout, 'test/campaigns/deaths/main.ts'), ...args], {
        encoding: 'utf8',
      });
    const { status, stdout } = deaths('--help');
    assert.equal(status, 0);
    for (const option of ['--kills', '--seed', '--guests', '--ways', '--json']) {
      assert.ok(stdout.includes(option), option);
    }
    assert.equal(deaths('--kills', 'none').status, 2);
  });
});

describe('the judge of deaths', () => {
  const quiet: Facts = {
    held: [{ guest: 'guest0', file: '/disk', from: 100, to: 200 }],
    operations: [],
    deaths: [{ way: 'kill', from: 120, to: 140 }],
    free: [],
    grants: [],
    problems: [],
    log: [],
  };
  const kinds = (change: Partial<Facts>): string[] => judge({ ...quiet, ...change }).map(({ kind }) => kind);
  const operation = (from: number, to: number, error?: string): Operation => ({
    guest: 'guest0',
    name: 'resume',
    from,
    to,
    error,
  });

  it('finds nothing in an ordinary run', () => {
    assert.deepEqual(kinds({ operations: [operation(10, 20)] }), []);
  });

  it('finds an instant at which the lock of a running guest was free', () => {
    assert.deepEqual(kinds({ free: [{ at: 130, file: '/disk' }] }), ['lock free']);
    assert.deepEqual(kinds({ free: [{ at: 99, file: '/disk' }] }), []);
    assert.deepEqual(kinds({ free: [{ at: 130, file: '/other' }] }), []);
  });

  it('finds a grant of a disk whose guest ran from the call to the answer', () => {
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 110, to: 150 }] }), ['granted to a rival']);
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 90, to: 150 }] }), []);
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 150, to: 210 }] }), []);
  });

  it('excuses an operation of which a call died with the daemon, and no other', () => {
    const died = 'error: End of file while reading data: Input/output error';
    assert.deepEqual(kinds({ operations: [operation(130, 150, died)] }), []);
    assert.deepEqual(kinds({ operations: [operation(150, 160, died)] }), ['operation failed'], 'no death then');
    assert.deepEqual(kinds({ operations: [operation(130, 150, 'resource busy: … is locked')] }), ['operation failed']);
  });

  it("finds new lines in libvirtd's log, but for calls that died, and every problem", () => {
    assert.deepEqual(kinds({ log: ['error : f:N : Cannot recv data: Connection reset by peer'] }), []);
    const restarted = 'warning : virNetDaemonRun:N : Make forcefull daemon shutdown';
    assert.deepEqual(kinds({ log: [restarted] }), ["in libvirtd's log"]);
    assert.deepEqual(kinds({ log: [restarted], deaths: [{ way: 'socket-restart', from: 1, to: 2 }] }), []);
    assert.deepEqual(kinds({ log: ['error : f:N : surprise'] }), ["in libvirtd's log"]);
    assert.deepEqual(kinds({ problems: [{ at: 1, kind: 'guest lost', detail: 'guest0' }] }), ['guest lost']);
  });
});
