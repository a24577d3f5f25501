/** The parts of `npm run deaths` that need no machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { Random } from '../../../src/programs/fuzz/random.ts';
import { allPlaces, type Place } from './boundaries.ts';
import type { Death, Facts, Operation } from './facts.ts';
import { judge } from './judge.ts';
import { parseOptions } from './options.ts';

describe('the command line of npm run deaths', () => {
  it('refuses unknown options and values', () => {
    for (const args of [
      ['--kills', '0'],
      ['--seed', 'x'],
      ['--ways', 'kill,nonsense'],
      ['--release', '11'],
      ['--nonsense'],
      ['word'],
    ]) {
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
    for (const option of ['--release', '--kills', '--seed', '--guests', '--ways', '--json']) {
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
    forks: [],
    log: [],
  };
  const kinds = (change: Partial<Facts>): string[] => judge({ ...quiet, ...change }).findings.map(({ kind }) => kind);
  const operation = (from: number, to: number, error?: string): Operation => ({
    guest: 'guest0',
    name: 'resume',
    files: ['/disk'],
    from,
    to,
    error,
  });
  const died = 'error: End of file while reading data: Input/output error';

  it('finds nothing in an ordinary run', () => {
    assert.deepEqual(kinds({ operations: [operation(10, 20)] }), []);
  });

  it('finds an instant at which the lock of a running guest was free', () => {
    assert.deepEqual(kinds({ free: [{ at: 130, file: '/disk' }] }), ['lock free']);
    assert.deepEqual(kinds({ free: [{ at: 99, file: '/disk' }] }), []);
    assert.deepEqual(kinds({ free: [{ at: 130, file: '/other' }] }), []);
  });

  it('accepts that a lock is free after a migration that a restart of the sockets cut off, and after no other', () => {
    const after = (way: Death['way'], name: string, error?: string): string[] =>
      kinds({
        free: [{ at: 130, file: '/disk' }],
        operations: [{ ...operation(80, 100, error), name }],
        deaths: [{ way, from: 70, to: 90 }],
      });
    const cut = "error: operation failed: job 'migration out' unexpectedly failed";
    assert(!after('socket-restart', 'migrate', cut).includes('lock free'));
    assert(after('kill', 'migrate', cut).includes('lock free'));
    assert(after('socket-restart', 'resume', cut).includes('lock free'));
    assert(after('socket-restart', 'migrate').includes('lock free'));
  });

  it('accepts that such a lock stays free while nothing acquires it again', () => {
    const cut = {
      ...operation(60, 80, "error: operation failed: job 'migration out' unexpectedly failed"),
      name: 'migrate',
    };
    const deaths = [{ way: 'socket-restart' as const, from: 70, to: 90 }];
    const after = (name: string, error?: string): string[] =>
      kinds({
        free: [{ at: 130, file: '/disk' }],
        operations: [cut, { ...operation(90, 100, error), name }],
        deaths,
      });
    assert.deepEqual(after('change-media', 'error: Connection reset by peer: Unable to release lock on /disk'), []);
    assert.deepEqual(after('resume'), ['lock free']);
  });

  it('finds a grant of a disk whose guest ran from the call to the answer', () => {
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 110, to: 150 }] }), ['granted to a rival']);
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 90, to: 150 }] }), []);
    assert.deepEqual(kinds({ grants: [{ file: '/disk', from: 150, to: 210 }] }), []);
  });

  it('accepts the failure of an operation of which a call died with the daemon, and no other', () => {
    const { findings, accepted } = judge({ ...quiet, operations: [operation(130, 150, died)] });
    assert.deepEqual(findings, []);
    assert.deepEqual(accepted, { 'the daemon died before it had answered the call': 1 });
    assert.deepEqual(kinds({ operations: [operation(150, 160, died)] }), ['operation failed'], 'no death then');
    assert.deepEqual(kinds({ operations: [operation(130, 150, 'resource busy: … is locked')] }), ['operation failed']);
    for (const way of ['restart', 'term', 'upgrade', 'reload', 'reexec', 'needrestart', 'refused-stop'] as const) {
      const deaths = [{ way, from: 120, to: 140 }];
      assert.deepEqual(kinds({ operations: [operation(130, 150, died)], deaths }), ['operation failed'], way);
    }
  });

  it('accepts that a guest did not go on after a migration that failed, if the daemon died in it', () => {
    const error = 'error : qemuMigrationSrcRestoreDomainState:N : Failed to resume guest GUEST after failure';
    const said = (name: string, from: number): string[] =>
      kinds({ operations: [{ ...operation(from, from + 20), name }], log: [{ at: from + 5, text: error }] });
    assert.deepEqual(said('migrate', 130), []);
    assert.deepEqual(said('migrate', 150), ["in libvirt's log"], 'no death then');
    assert.deepEqual(said('resume', 130), ["in libvirt's log"]);
  });

  it('accepts that a monitor is reset while its QEMU is killed, and not else', () => {
    const text = 'error : qemuMonitorIORead:N : Unable to read from monitor: Connection reset by peer';
    const said = (name: string): string[] =>
      kinds({ operations: [{ ...operation(150, 160), name }], log: [{ at: 155, text }] });
    assert.deepEqual(said('kill'), []);
    assert.deepEqual(said('suspend'), ["in libvirt's log"]);
  });

  it("accepts the failure of an operation in which libvirtd's own child hung, and no other", () => {
    const operations = [operation(150, 160, 'error: Child quit during startup handshake: Input/output error')];
    assert.deepEqual(kinds({ operations, forks: [155] }), []);
    assert.deepEqual(kinds({ operations, forks: [145] }), ['operation failed']);
    assert.deepEqual(kinds({ operations: [operation(150, 160, died)], forks: [155] }), ['operation failed']);
  });

  it("accepts that QEMU's own lock of an image was still held in a migration only", () => {
    const error = `error: unable to execute QEMU command 'cont': Failed to get "write" lock`;
    const failed = (name: string): string[] => kinds({ operations: [{ ...operation(150, 160, error), name }] });
    assert.deepEqual(failed('migrate'), []);
    assert.deepEqual(failed('resume'), ['operation failed']);
  });

  it('accepts that a disk was locked only if the rival was granted it during the operation', () => {
    const operations = [operation(205, 220, 'resource busy: … is locked')];
    const grants = [{ file: '/disk', from: 204, to: 206 }];
    assert.deepEqual(kinds({ operations, grants }), []);
    assert.deepEqual(kinds({ operations, grants: [{ file: '/other', from: 204, to: 206 }] }), ['operation failed']);
    assert.deepEqual(kinds({ operations, grants: [{ file: '/disk', from: 201, to: 203 }] }), ['operation failed']);
  });

  it("finds lines in libvirt's log, but for calls that died, and every problem", () => {
    const operations = [operation(130, 150)];
    const line = (at: number, text: string): Pick<Facts, 'log'> => ({ log: [{ at, text }] });
    const reset = 'error : f:N : Cannot recv data: Connection reset by peer';
    assert.deepEqual(kinds({ operations, ...line(135, reset) }), []);
    assert.deepEqual(kinds({ operations, ...line(160, reset) }), ["in libvirt's log"], 'no call then');
    assert.deepEqual(kinds(line(135, reset)), ["in libvirt's log"], 'no call at all');
    const restarted = line(135, 'warning : virNetDaemonRun:N : Make forcefull daemon shutdown');
    assert.deepEqual(kinds({ operations, ...restarted }), ["in libvirt's log"]);
    const deaths = [{ way: 'socket-restart' as const, from: 120, to: 140 }];
    assert.deepEqual(kinds({ operations, deaths, ...restarted }), []);
    assert.deepEqual(kinds({ operations, ...line(135, 'error : f:N : surprise') }), ["in libvirt's log"]);
    assert.deepEqual(kinds({ problems: [{ at: 1, kind: 'guest lost', detail: 'guest0' }] }), ['guest lost']);
  });
});

describe('the places of deaths', () => {
  it('have every operation at every boundary, in an order that the seed decides', () => {
    const [one, same, other] = [allPlaces(new Random(1)), allPlaces(new Random(1)), allPlaces(new Random(2))];
    assert.deepEqual(one, same);
    assert.notDeepEqual(one, other);
    const words = (places: readonly Place[]): string[] => places.map((place) => Object.values(place).join()).sort();
    assert.deepEqual(words(one), words(other));
    assert.equal(new Set(words(one)).size, one.length);
  });
});
