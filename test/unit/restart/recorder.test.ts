import assert from 'node:assert/strict';
import path from 'node:path';
import fc from 'fast-check';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { ownState } from '../../../src/daemon/state.ts';
import type { ProcessHost } from '../../../src/lockd/process-host.ts';
import { NO_KEEPER, type FileKeeper } from '../../../src/lockspace/file-keeper.ts';
import { HeldFile } from '../../../src/lockspace/files.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { eventually } from '../../../src/lab/process.ts';
import { posix } from '../../../src/posix/posix.ts';
import { captureState } from '../../../src/restart/capture.ts';
import { formatDocument, type StateDocument } from '../../../src/restart/document.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { entriesFor, foldEntries, recordedDocument } from '../../../src/restart/recorded-state.ts';
import { Recorder } from '../../../src/restart/recorder.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { FilesInFlight } from '../../../src/store/in-flight.ts';
import { nameIn, DescriptorStore } from '../../../src/store/store.ts';
import { StateRecord } from '../../../src/store/record.ts';
import { makeDaemon } from '../support/daemon.ts';
import { flight } from '../support/flight.ts';
import { temporaryDirectory, useTemporaryDirectory } from '../support/locks.ts';

const EAGAIN = -11;
const boot = '00010203-0405-0607-0809-0a0b0c0d0e0f';
/** Mere numbers: nothing is open there. */
const FIRST_SOCKET = 20_000;
const FIRST_PIDFD = 30_000;
const NAMES = ['a', 'b', 'c', 'd'];
const ALL_PIDS = [5_000_001, 5_000_002, 5_000_003];

/** Other processes, all of which live until it is said that they are gone. */
class World implements ProcessHost {
  readonly ownPid = 1;
  readonly ownStartTime = 1;
  readonly reportsPeers = true;
  readonly watched = new Map<number, () => void>();
  private next = FIRST_PIDFD;
  private time = 0;
  peerPidfd(): number {
    return this.next++;
  }
  openPidfd(): number {
    return this.next++;
  }
  startTime(): number {
    return 7;
  }
  isLocal(): boolean {
    return true;
  }
  signal(): number {
    return 0;
  }
  watch(pidfd: number, onGone: () => void): void {
    this.watched.set(pidfd, onGone);
  }
  close(fd: number): void {
    this.watched.delete(fd);
  }
  now(): number {
    return this.time++;
  }
  setTimeout(): undefined {
    return undefined;
  }
}

/** Resources are in no certain order. */
function plain(document: StateDocument): unknown {
  const lockspaces = Array.from(document.lockspaces, ({ directory, resources }) => ({
    directory,
    resources: [...resources].sort((one, other) => (one.name < other.name ? -1 : 1)),
  }));
  return JSON.parse(formatDocument({ ...document, lockspaces }).toString());
}

type Step = (run: Run) => void;

/** A daemon, its record, and its clients. */
class Run {
  readonly world = new World();
  readonly daemon: Daemon;
  readonly recorder: Recorder;
  private readonly words: () => Uint32Array;
  private readonly directory: string;
  private nextSocket = FIRST_SOCKET;

  /** @param send the manager's answer to a message, for which it is waited so many milliseconds */
  constructor(directory: string, half: number, send: (text: string, milliseconds: number) => number = () => 0) {
    this.directory = directory;
    let keeper: FileKeeper = NO_KEEPER;
    const delegate = {
      get isKeeping(): boolean {
        return keeper.isKeeping;
      },
      keeps: (fd: number) => fd % 2 === 0,
      locked: (file: Parameters<FileKeeper['locked']>[0]) => {
        keeper.locked(file);
      },
      kindChanged: () => undefined,
      releasing: () => undefined,
      unlocked: (file: Parameters<FileKeeper['locked']>[0]) => {
        keeper.unlocked(file);
      },
      gone: (file: Parameters<FileKeeper['locked']>[0]) => {
        keeper.gone(file);
      },
      get status(): never {
        throw new Error('nobody asks');
      },
      record: undefined,
      names: undefined,
      queue: undefined,
    };
    this.daemon = makeDaemon(this.world, delegate);
    this.daemon.lockServer.listeners.push({ fd: FIRST_SOCKET - 2, path: null, unlink: true });
    this.daemon.adminServer.listeners.push({ fd: FIRST_SOCKET - 1, path: null, unlink: true });
    const record = StateRecord.create({ half, boot });
    assert(typeof record !== 'number');
    const link = {
      connect: () => 1_000_000,
      send: (_socket: number, text: string, _fd: number, milliseconds: number) => send(text, milliseconds),
      close: () => undefined,
      setTimeout: () => undefined,
    };
    const store = new DescriptorStore('/nowhere', record.bank.names, link);
    store.keepFilesBy(new FilesInFlight(FIRST_SOCKET - 3, [], flight));
    const identity = { process: { start: 7, boot }, pid: process.pid, restarts: 0, deaths: 0, started: 0 };
    this.recorder = new Recorder(this.daemon, store, record, identity, Infinity);
    this.words = () => StateRecord.open(this.recorder.descriptor, boot).bank.names;
    keeper = this.recorder;
    this.recorder.begin(false);
  }

  /** Not served: its descriptor is a mere number. */
  connect(isAdmin: boolean): void {
    const { daemon, recorder } = this;
    const fd = this.nextSocket++;
    const peer = { pid: ALL_PIDS[fd % ALL_PIDS.length] ?? 0, uid: 0, gid: 0 };
    if (isAdmin) recorder.adminClientOpened(daemon.adminServer.adopt(fd, daemon.adminServer.nextClientId, peer, 1));
    else recorder.lockClientOpened(daemon.lockServer.adopt(fd, daemon.lockServer.nextClientId, peer, 1));
  }

  client(index: number): ReturnType<Daemon['lockServer']['adopt']> | undefined {
    const all = [...this.daemon.lockServer.adoptAll().values()];
    return all[index % Math.max(1, all.length)];
  }

  register(index: number, pid: number): void {
    this.client(index)?.context.register({ pid, id: 1, name: `vm${pid}`, uuid: boot });
  }

  acquire(index: number, name: number, flags: number, isElsewhere: boolean): void {
    const client = this.client(index)?.context;
    if (client?.owner == null) return;
    const owner = client.identify(client.owner);
    const { lockspaces } = this.daemon;
    const lockspace = isElsewhere
      ? (lockspaces.find(this.directory) ?? lockspaces.create(this.directory))
      : lockspaces.default;
    const file = NAMES[name] ?? '';
    this.attempt(() => {
      lockspaces.acquire(lockspace, isElsewhere ? file : path.join(this.directory, `default-${file}`), modeOf(flags), {
        owner,
        since: 1,
        client: client.connection.id,
      });
    });
  }

  release(index: number, choice: number): void {
    const owner = this.client(index)?.context.owner;
    const held = [...this.daemon.lockspaces.resources()];
    const found = held[choice % Math.max(1, held.length)];
    if (owner == null || found === undefined) return;
    this.attempt(() => {
      this.daemon.lockspaces.release(found.lockspace, found.name, owner.pid);
    });
  }

  /** The process of an owner is gone that is being ended. */
  gone(choice: number): void {
    const all = [...this.world.watched];
    const [pidfd, onGone] = all[choice % Math.max(1, all.length)] ?? [];
    if (pidfd === undefined) return;
    onGone?.();
    this.daemon.ownerReaper.finish();
  }

  private attempt(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof RpcError) && !(error instanceof Waiting)) throw error;
    }
  }

  /** What is on record, and what should be. */
  compare(): void {
    this.recorder.settingsChanged();
    const record = StateRecord.open(this.recorder.descriptor, boot);
    const descriptors = new Map<number, number>();
    for (const [fd, word] of this.words().entries()) if (word !== 0) descriptors.set(nameIn(word), fd);
    const state = foldEntries(record.entries());
    const recorded = parseDocument(recordedDocument(state, (name) => descriptors.get(name)));
    const own = { ...ownState(this.daemon), epoll: undefined, process: undefined, record: undefined, deaths: 0 };
    const present = captureState(this.daemon, own);
    assert.deepEqual([...entriesFor(foldEntries(entriesFor(state)))], [...entriesFor(state)]);
    assert.deepEqual(plain(recorded), plain(present));
  }

  end(): void {
    this.recorder.end();
    for (const resource of [...this.daemon.lockspaces.resources()]) this.daemon.lockspaces.endResource(resource);
    posix.close(this.recorder.descriptor);
  }
}

const small = fc.nat(7);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.boolean().map((isAdmin) => (run: Run) => {
    run.connect(isAdmin);
  }),
  fc.tuple(small, fc.constantFrom(...ALL_PIDS)).map(([index, pid]) => (run: Run) => {
    run.register(index, pid);
  }),
  {
    weight: 4,
    arbitrary: fc
      .tuple(small, fc.nat(3), fc.nat(3), fc.boolean())
      .map(([index, name, flags, isElsewhere]) => (run: Run) => {
        run.acquire(index, name, flags, isElsewhere);
      }),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(small, small).map(([index, choice]) => (run: Run) => {
      run.release(index, choice);
    }),
  },
  small.map((index) => (run: Run) => {
    run.client(index)?.close();
  }),
  small.map((index) => (run: Run) => {
    run.client(index)?.context.restrict();
  }),
  small.map((choice) => (run: Run) => {
    run.gone(choice);
  }),
  fc.boolean().map((isEmptied) => (run: Run) => {
    if (isEmptied) run.recorder.suspend();
    else run.recorder.resume();
  }),
  fc.nat(50).map((limit) => (run: Run) => {
    run.daemon.lockServer.setLimits({ maxClients: limit + 100, maxAnonymousClients: limit });
  }),
  small.map((missed) => (run: Run) => {
    const [admin] = [...run.daemon.adminServer.adoptAll().values()];
    if (admin !== undefined) Object.assign(admin.context, { subscribed: missed % 2 === 0, missed });
  }),
);

describe('the recorder', () => {
  for (const [size, half] of [
    ['with room', 512 * 1024],
    ['that is too small, and replaced again and again', 4096],
  ] as const) {
    it(`has on record what the daemon has, at any time, in a record ${size}`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          const directory = temporaryDirectory();
          const run = new Run(directory.path, half);
          try {
            run.connect(false);
            run.register(0, ALL_PIDS[0] ?? 0);
            for (const next of steps) {
              next(run);
              run.compare();
            }
          } finally {
            run.end();
            directory.remove();
          }
        }),
        { numRuns: 60 },
      );
    });
  }

  it('does not wait for a manager that takes no larger record, while the present one has room', () => {
    const directory = temporaryDirectory();
    const waits: number[] = [];
    const run = new Run(directory.path, 4096, (text, milliseconds) => {
      if (!/^FDSTORE=1.*FDNAME=R/s.test(text)) return 0;
      waits.push(milliseconds);
      return waits.length > 1 ? EAGAIN : 0;
    });
    try {
      for (let count = 0; count < 50; count++) {
        run.connect(false);
        if (count > 3) run.client(0)?.close();
      }
      run.compare();
      assert(waits.length > 2);
      assert.deepEqual(new Set(waits), new Set([0]));
    } finally {
      run.end();
      directory.remove();
    }
  });

  describe('with a registered client', () => {
    const directory = useTemporaryDirectory();
    let run: Run;
    const length = (): number => StateRecord.open(run.recorder.descriptor, boot).length;

    beforeEach(() => {
      run = new Run(directory.path, 512 * 1024);
      run.connect(false);
      run.register(0, ALL_PIDS[0] ?? 0);
    });
    afterEach(() => {
      run.end();
    });

    it('records no registration that is the one before', () => {
      const registered = length();
      run.register(0, ALL_PIDS[0] ?? 0);
      assert.equal(length(), registered);
      run.register(0, ALL_PIDS[1] ?? 0);
      assert(length() > registered);
      run.compare();
    });

    it('drops superseded entries before long, which the next process would have to read', async () => {
      run.acquire(0, 0, 0, false);
      while (length() < 100_000) {
        run.connect(false);
        run.client(1)?.close();
      }
      await eventually('few are left', () => length() < 10_000);
      run.compare();
    });
  });

  it("leaves the files of storage helpers to these, also when their locks' kind changes", () => {
    const store = new DescriptorStore('/nowhere', new Uint32Array(64));
    const asked: number[] = [];
    store.keep = (fd) => asked.push(fd);
    const record = StateRecord.create({ boot });
    assert(typeof record !== 'number');
    const identity = { process: { start: 7, boot }, pid: process.pid, restarts: 0, deaths: 0, started: 0 };
    const recorder = new Recorder(makeDaemon(new World()), store, record, identity, Infinity);
    recorder.kindChanged(new HeldFile(-1, 1, 2n, false, 0, 'ofd', { helper: 1, file: 2 }));
    assert.deepEqual(asked, []);
    posix.close(record.fd);
  });
});
