import assert from 'node:assert/strict';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Epoll, posix, restrictPosix } from '../../../src/posix/posix.ts';
import type { Pollable } from '../../../src/rpc/poller.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { poller } from '../support/poller.ts';

const { EBADF, ENOSPC } = os.constants.errno;
/** Numbers that no descriptor has. */
const FIRST = 1_000_000;
const COUNT = 4;
const nobody = {} as Pollable;

describe('a descriptor that is watched', () => {
  it('is not taken for readable because one with its number was, which a handler has closed', async () => {
    const made: number[] = [];
    const pair = (): readonly [number, number] => {
      const ends = new Int32Array(2);
      assert.equal(posix.packetPair(ends), 0);
      const [near = -1, far = -1] = ends;
      made.push(near, far);
      return [near, far];
    };
    const [[first, toFirst], [second, toSecond]] = [pair(), pair()];
    const heard: string[] = [];
    let later: readonly [number, number] | undefined;
    // Whichever of the two comes first in the round closes the other one, and watches another descriptor with its number.
    const onReadable = (name: string, other: number) => (): void => {
      heard.push(name);
      poller.unwatch(other);
      posix.close(other);
      later = pair();
      assert.equal(later[0], other);
      poller.watch(other, () => heard.push('later'));
    };
    poller.watch(first, onReadable('one', second));
    poller.watch(second, onReadable('one', first));
    for (const fd of [toFirst, toSecond]) posix.sendPacket(fd, Buffer.from('x'), 1);
    await until('one is heard', () => heard.length > 0);
    await sleep(20);
    assert.deepEqual(heard, ['one']);
    assert.ok(later !== undefined);
    posix.sendPacket(later[1], Buffer.from('x'), 1);
    await until('the later one is heard', () => heard.length > 1);
    assert.deepEqual(heard, ['one', 'later']);
    for (const fd of new Set(made)) {
      poller.unwatch(fd);
      posix.close(fd);
    }
  });
});

describe('the poller', () => {
  const whole = posix;
  let asked = 0;
  let refuses = true;
  const polled = new Set<number>();
  /** What the kernel says of the first one once it has room. */
  let first = 0;

  before(() => {
    const pollerSet: typeof posix.pollerSet = (operation, fd, events, listener) => {
      if (fd < FIRST) return whole.pollerSet(operation, fd, events, listener);
      if (operation === Epoll.DELETE) return 0;
      asked++;
      if (refuses) return -ENOSPC;
      if (fd === FIRST && first < 0) return first;
      polled.add(fd);
      return 0;
    };
    restrictPosix(Object.setPrototypeOf({ pollerSet }, whole) as Partial<typeof posix>);
  });

  after(() => {
    for (let fd = FIRST; fd < FIRST + COUNT; fd++) poller.remove(fd);
    restrictPosix(whole);
  });

  it('asks again for each connection once in a while, however many the kernel has no room for', async () => {
    for (let fd = FIRST; fd < FIRST + COUNT; fd++) poller.add(fd, nobody);
    await sleep(210);
    // The first time, and then every 20 ms.
    assert.ok(asked >= 2 * COUNT && asked <= 13 * COUNT, `asked ${asked} times`);
    refuses = false;
    await sleep(50);
    asked = 0;
    await sleep(50);
    assert.equal(asked, 0);
  });

  it('goes on with the others when one cannot be polled, and says so', async () => {
    for (let fd = FIRST; fd < FIRST + COUNT; fd++) poller.remove(fd);
    const directory = temporaryDirectory();
    const log = new LogRecorder(join(directory.path, 'log'));
    refuses = true;
    first = -EBADF;
    for (let fd = FIRST; fd < FIRST + COUNT; fd++) poller.add(fd, nobody);
    polled.clear();
    refuses = false;
    await until('the last one is polled', () => polled.has(FIRST + COUNT - 1));
    log.stop();
    assert.equal(polled.size, COUNT - 1);
    assert.deepEqual(log.lines, ['error: A descriptor is not polled: epoll_ctl 1 on descriptor 1000000: errno 9']);
    directory.remove();
  });
});
