import assert from 'node:assert/strict';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Epoll, posix, restrictPosix } from '../../../src/posix/posix.ts';
import type { Pollable } from '../../../src/rpc/poller.ts';
import { poller } from '../support/poller.ts';

const { ENOSPC } = os.constants.errno;
/** Numbers that no descriptor has. */
const FIRST = 1_000_000;
const COUNT = 4;
const nobody = {} as Pollable;

describe('the poller', () => {
  const whole = posix;
  let asked = 0;
  let refuses = true;

  before(() => {
    const pollerSet: typeof posix.pollerSet = (operation, fd, events, listener) => {
      if (fd < FIRST) return whole.pollerSet(operation, fd, events, listener);
      if (operation === Epoll.DELETE) return 0;
      asked++;
      return refuses ? -ENOSPC : 0;
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
});
