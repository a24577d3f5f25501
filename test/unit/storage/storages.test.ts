/** Helpers as the daemon uses them, on a storage that hangs. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { HangingStorage, unmount } from '../../../src/lab/hanging-storage.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingFuse } from '../../../src/lab/requirements.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { posix } from '../../../src/posix/posix.ts';
import { Waiting } from '../../../src/rpc/waiting.ts';
import { Asker, Turns } from '../../../src/storage/asker.ts';
import type { Helper } from '../../../src/storage/helper.ts';
import { type Answer, Operation, RequestFlag } from '../../../src/storage/messages.ts';
import type { Place } from '../../../src/proc/route.ts';
import { Storages } from '../../../src/storage/storages.ts';
import { skipIf } from '../../support/skip.ts';
import { storageHelpers } from '../../support/storage-helpers.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { poller } from '../support/poller.ts';

const { ENOENT } = constants.errno;

describe('helpers of storage that may hang', function () {
  this.timeout(20_000);
  let directory: ReturnType<typeof temporaryDirectory>;
  let storage: HangingStorage;
  let mount: string;
  let storages: Storages;

  before(function () {
    skipIf(this, missingFuse());
  });

  beforeEach(async () => {
    directory = temporaryDirectory();
    mount = path.join(directory.path, 'storage');
    storage = await HangingStorage.mountAt(mount);
    storages = new Storages(poller);
  });

  afterEach(async () => {
    await storage.letGo();
    for (const { socket } of storages.state) {
      poller.unwatch(socket);
      posix.close(socket);
    }
    await storage.end();
    unmount(mount);
    directory.remove();
  });

  const at = (name: string): string => path.join(mount, name);
  function place(): Place {
    const found = storages.placeOf(at('disk'));
    assert.ok(found !== null);
    return found;
  }
  const helper = (): Helper => storages.helperFor(place());
  const acquiring = (name: string, flags = 0) => ({ operation: Operation.ACQUIRE, flags, path: at(name) });
  async function ask(request: Parameters<Helper['call']>[0]): Promise<Answer | null> {
    return new Promise((resolve) => helper().call(request, 0, resolve));
  }

  it('are one a file system, found when it is mounted while the daemon runs', async () => {
    assert.equal(place().name, mount);
    assert.equal(storages.placeOf('/etc/passwd'), null);
    assert.equal(helper(), helper());
    assert.equal((await ask(acquiring('disk')))?.status, 0);
    const before = (await ask({ operation: Operation.STAT, path: at('missing') }))?.status;
    assert.equal(before, -ENOENT);
    const other = path.join(directory.path, 'other');
    assert.equal(storages.placeOf(path.join(other, 'x')), null);
    const second = await HangingStorage.mountAt(other);
    await eventually('the mount is seen', () => storages.placeOf(path.join(other, 'x')) !== null);
    assert.notEqual(storages.placeOf(path.join(other, 'x'))?.key, place().key);
    await second.end();
    unmount(other);
    await eventually('its end is seen', () => storages.placeOf(path.join(other, 'x')) === null);
  });

  it('serve calls in their order, and say which hang, for whom and since when', async () => {
    const done: string[] = [];
    await storage.hang('open');
    const before = Date.now();
    helper().call(acquiring('disk'), 4711, () => done.push('disk'));
    helper().call({ operation: Operation.STAT, path: at('disk') }, 4712, () => done.push('stat'));
    await storage.asked('open');
    const [view] = storages.views;
    assert.deepEqual(
      view?.calls.map(({ request, pid }) => [request.path, pid]),
      [
        [at('disk'), 4711],
        [at('disk'), 4712],
      ],
    );
    assert.ok((view.calls[0]?.since ?? 0) >= before);
    assert.deepEqual(done, []);
    await storage.letGo();
    await eventually('both are answered', () => done.length === 2);
    assert.deepEqual(done, ['disk', 'stat']);
    assert.deepEqual(
      storages.views.map(({ calls }) => calls.length),
      [0],
    );
  });

  it('undo an acquire that succeeds when nobody waits for it any more, before anything else', async () => {
    await storage.hang('open');
    const answers: unknown[] = [];
    const forget = helper().call(acquiring('disk'), 1, (answer) => answers.push(answer));
    const forgetQueued = helper().call(acquiring('queued', RequestFlag.CREATE), 1, (answer) => answers.push(answer));
    await storage.asked('open');
    forget();
    forgetQueued();
    const again = ask(acquiring('disk'));
    await storage.letGo();
    assert.equal((await again)?.status, 0);
    assert.deepEqual(answers, []);
    assert.equal(storage.requests.includes('create'), false);
  });

  it('go on with another process when one dies, and answer all calls but those for files that it had', async () => {
    const held = await ask(acquiring('disk'));
    const events: string[] = [];
    storages.observer = {
      ...storages.observer,
      changed: () => events.push('changed'),
      died: (before, next) => events.push(`died ${before.id} ${next?.id ?? 0}`),
    };
    await storage.hang('open');
    const one = ask(acquiring('disk'));
    const two = ask({ operation: Operation.RELEASE, file: held?.file ?? 0 });
    await storage.asked('open', storage.requests.lastIndexOf('setlk') + 1);
    process.kill(helperProcess(), 'SIGKILL');
    // A process that waits for storage ends when that answers.
    await storage.letGo();
    assert.equal(await two, null);
    assert.equal((await one)?.status, 0);
    // The last one: the next helper's pid is known.
    assert.deepEqual(events, ['changed', 'changed', 'died 1 2', 'changed']);
    assert.equal(storages.views[0]?.pid, helperProcess());
  });

  /** Storages whose helpers are a Python program with the socket as descriptor 3, and `answer(serial, more)`, which makes a packet. */
  function storagesOf(program: string, ...args: string[]): Storages {
    const script = `import os, socket, struct, sys
link = socket.socket(fileno=3)
def answer(serial, more):
    return struct.pack('<IiQQQQIIQiI', 1, 0, serial, 0, 0, 0, 0, 0, 0, 0, 16 if more else 0)
serial = struct.unpack_from('<Q', link.recv(8192), 8)[0]
${program}`;
    return new Storages(poller, undefined, (socket, _place, onEnd) => {
      const child = spawn('python3', ['-c', script, ...args], { stdio: ['ignore', 'inherit', 'inherit', socket] });
      child.on('exit', onEnd);
    });
  }

  for (const [packet, what] of [
    ["b'garbage'", 'packet of another size'],
    ['answer(serial, False)', 'answer that has none'],
    ['answer(serial + 7, False)', 'answer to another request'],
  ] as const) {
    it(`leave no descriptor behind that comes with ${what}`, async () => {
      const marked = path.join(directory.path, 'marked');
      writeFileSync(marked, '');
      storages = storagesOf(
        `fd = os.open(sys.argv[1], os.O_RDONLY)
socket.send_fds(link, [${packet}], [fd, fd])
try:
    link.send(b'end')
except BrokenPipeError:
    pass`,
        marked,
      );
      let hasEnded = false;
      storages.observer = { ...storages.observer, died: () => (hasEnded = true) };
      await ask({ operation: Operation.STAT, path: at('disk') });
      await eventually('it has ended', () => hasEnded);
      const opened = readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/self/fd/${fd}`)];
        } catch {
          return [];
        }
      });
      assert.ok(!opened.includes(marked));
    });
  }

  it('are read a few packets at a time, so that others are served between them', async () => {
    const ready = path.join(directory.path, 'ready');
    storages = storagesOf(
      `for number in range(150): link.send(answer(serial, True))
open(sys.argv[1], 'w').close()
link.send(answer(serial, False))
link.recv(1)`,
      ready,
    );
    let [packets, atOnce] = [0, 0];
    let isDone = false;
    const ends = new Int32Array(2);
    posix.createPipe(ends);
    const [other = -1, otherEnd = -1] = ends;
    poller.watch(other, () => (atOnce = packets));
    const onMore = (): void => {
      if (packets++ === 0) writeSync(otherEnd, 'x');
    };
    helper().call({ operation: Operation.LIST }, 0, () => (isDone = true), { onMore });
    // Without a turn of the event loop, so that the packets wait in the socket.
    execFileSync('sh', ['-c', 'while ! test -e "$1"; do sleep 0.01; done', 'sh', ready]);
    await eventually('all are read', () => isDone);
    assert.equal(packets, 150);
    assert.ok(atOnce > 0 && atOnce < 100, `${atOnce} packets before the other`);
    for (const end of ends) posix.close(end);
  });

  it('fail all calls when no helper can be started', async () => {
    storages = new Storages(poller, undefined, (_socket, _place, onEnd) => {
      onEnd();
    });
    assert.equal(await ask(acquiring('disk')), null);
    assert.deepEqual(storages.state, []);
  });

  it('take no more than a thousand calls each, and no more than 64 file systems', async () => {
    await storage.hang('open');
    for (let i = 0; i < 1000; i++) helper().call(acquiring('disk'), i, () => undefined);
    assert.throws(helper, (error: unknown) => error instanceof RpcError && error.message.includes('1000 calls wait'));
    const idle = new Storages(poller, undefined, () => undefined);
    idle.observer = { ...idle.observer, keeps: ({ id }) => id !== 7 };
    for (let i = 0; i < 64; i++) idle.helperFor({ key: String(i), name: '/m' });
    // One that is not used makes room.
    idle.helperFor({ key: '65', name: '/m' });
    assert.throws(() => idle.helperFor({ key: '64', name: '/m' }), /64 file systems/);
    for (const { socket } of idle.state) {
      poller.unwatch(socket);
      posix.close(socket);
    }
  });

  it('outlive their daemon: the next one gets the list of files, and no answer to an older request', async () => {
    const held = await ask(acquiring('disk'));
    await storage.hang('create');
    let isAnswered = false;
    helper().call(acquiring('new', RequestFlag.CREATE), 1, () => (isAnswered = true));
    await storage.asked('create');
    const states = storages.state.map((state) => ({ ...state, socket: posix.duplicate(state.socket) }));
    for (const { socket } of storages.state) poller.unwatch(socket);
    const next = new Storages(poller);
    let listed: readonly Answer[] = [];
    next.observer = { ...next.observer, listed: (_, files) => (listed = files) };
    next.restore(states);
    let status: number | undefined;
    next.helperFor(place()).call({ operation: Operation.STAT, path: at('disk') }, 0, (answer) => {
      status = answer?.status;
      assert.equal(listed.length, 2);
    });
    next.attach();
    await storage.letGo();
    await eventually('the list and the call are answered', () => status === 0);
    assert.equal(listed[0]?.file, held?.file);
    assert.equal(isAnswered, false);
    for (const { socket } of next.state) {
      poller.unwatch(socket);
      posix.close(socket);
    }
  });

  it('are known to the next program once they have ended, of the last 256, and give it no id again', () => {
    const next = new Storages(poller, undefined, () => undefined);
    const ended = Array.from({ length: 300 }, (_, index) => ({ id: index + 1, pid: 1000 + index }));
    next.restoreEnded(ended);
    assert.deepEqual(next.endedState, ended.slice(-256));
    assert.ok(ended.every(({ pid }) => next.wasHelper(pid)));
    assert.deepEqual([next.endedProcessOf(300), next.endedProcessOf(1), next.endedProcessOf(301)], [1299, 0, 0]);
    const { id, socket } = next.helperFor({ key: 'fs', name: '/' });
    assert.equal(id, 301);
    poller.unwatch(socket);
    posix.close(socket);
  });

  it('are recorded as ended when they die', async () => {
    await ask({ operation: Operation.STAT, path: at('disk') });
    const { id, pid } = helper();
    let recorded: unknown;
    storages.observer = { ...storages.observer, changed: () => (recorded = storages.endedState) };
    process.kill(pid, 'SIGKILL');
    await eventually('its end is noticed', () => recorded !== undefined);
    assert.deepEqual(recorded, [{ id, pid }]);
    assert.equal(storages.endedProcessOf(id), pid);
  });

  it('give a handler their answers when it is called again, in the order in which its calls came', async () => {
    const turns = new Turns();
    const log: string[] = [];
    const wakes: (() => void)[] = [];
    const client = (name: string) => {
      const asker = new Asker(turns);
      const call = (): void => {
        try {
          asker.run(() => {
            asker.enter(at('disk'));
            const { answer } = asker.ask(helper, acquiring('disk'), 1);
            log.push(`${name} ${answer?.status === 0 ? 'granted' : 'refused'}`);
          });
        } catch (error) {
          assert.ok(error instanceof Waiting);
          error.begin(() => wakes.push(call));
        }
      };
      call();
      return asker;
    };
    await storage.hang('open');
    client('one');
    const two = client('two');
    client('three');
    await storage.asked('open');
    two.abandon();
    await storage.letGo();
    await eventually('all are decided', () => {
      wakes.shift()?.();
      return log.length === 2;
    });
    assert.deepEqual(log, ['one granted', 'three refused']);
  });

  /** The pid of the only helper of this process. */
  function helperProcess(): number {
    const [pid = 0, ...others] = storageHelpers(mount);
    assert.ok(pid > 0 && others.length === 0);
    return pid;
  }

  it('are not started by a storage that is not used', () => {
    writeFileSync(path.join(directory.path, 'file'), '');
    assert.equal(storages.placeOf(path.join(directory.path, 'file')), null);
    assert.deepEqual(storages.state, []);
  });
});
