/** Kills the daemon as it enters a system call, at each system call of an owner's end. */
import assert from 'node:assert/strict';
import { eventually } from '../../../src/lab/process.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { type OwnerProcess, RIVAL, StoreScene } from './scene.ts';

/** The system calls of an owner's end, and how often each is made at most. */
const CALLS: Readonly<Record<string, number>> = {
  recvmsg: 1,
  getsockopt: 2,
  epoll_ctl: 3,
  shutdown: 1,
  sendmsg: 5,
  pidfd_send_signal: 2,
  fcntl: 1,
  close: 4,
};

interface End {
  readonly begin: (owner: OwnerProcess) => unknown;
  /** The signal that ends the owner's process, also when the daemon dies before it has noticed anything. */
  readonly signal: NodeJS.Signals;
}

const ENDS: Readonly<Record<string, End>> = {
  'when an owner has ended': {
    begin: async (owner) => {
      owner.kill();
      return owner.ended();
    },
    signal: 'SIGKILL',
  },
  'while it ends an owner that has hung up': { begin: async (owner) => owner.close(), signal: 'SIGTERM' },
};

for (const [what, { begin, signal }] of Object.entries(ENDS)) {
  describe(`a daemon that is killed ${what}`, function () {
    this.timeout(60_000);
    let scene: StoreScene;

    beforeEach(async () => {
      scene = await StoreScene.begin();
    });
    afterEach(async () => {
      await scene.end();
    });

    for (const [call, most] of Object.entries(CALLS)) {
      it(`at ${call} leaves the lock to no one`, async () => {
        const rival = await scene.client(RIVAL);
        for (let count = 1; count <= most; count++) {
          const owner = await scene.owner();
          await owner.call(lock.acquire('', scene.at('lease'), autocreate));
          const killer = await scene.killer(call, count);
          await begin(owner);
          await eventually('the owner is ended, or the daemon is', async () => {
            return killer.hasKilled || (await scene.storedFiles()).length === 0;
          });
          await killer.letGo();
          if (killer.hasKilled) await scene.served();
          assert.equal(await owner.ended(), signal, `${call} ${count}`);
          await eventually(`the lock is free, ${call} ${count}`, async () => !(await scene.isRefused(rival, 'lease')));
          await rival.must(lock.release('', scene.at('lease')));
        }
        const names = await eventually('nothing is left in the store', async () => {
          return (await scene.storedFiles()).length === 0 && (await scene.manager.stored());
        });
        assert(names.length <= 6, names.join());
      });
    }
  });
}
