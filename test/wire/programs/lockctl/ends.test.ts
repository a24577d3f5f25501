/** Messages of virt-lockctl when the daemon ends, or another one replaces it, during a call. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { encode, u32 } from '../../../../src/lab/wire.ts';

const program = join(checkout, 'bin/virt-lockctl');
const unsubscribe = encode({ program: 0x696e7175, procedure: 8, serial: 0x7fffffff, payload: u32(0) });

describe('virt-lockctl, when the daemon ends', function () {
  this.timeout(30_000);
  let daemon: LockDaemon;
  /** Holds a socket of the admin's name, at which the tests answer. */
  let directory: string;
  let listener: Server | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  beforeEach(() => {
    directory = mkdtempSync(join(daemon.lab.directory, 'admin-'));
  });

  afterEach(() => {
    listener?.close();
    listener = undefined;
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const listen = async (answer: (connection: Socket) => void): Promise<Server> => {
    listener = createServer(answer).listen(join(directory, 'virtlockd-admin-sock'));
    await once(listener, 'listening');
    return listener;
  };
  const lockctl = (...args: readonly string[]): Running => daemon.lab.spawn(program, ['--connect', directory, ...args]);

  for (const command of [['status'], ['list'], ['watch'], ['who', '/none', '--json']]) {
    it(`tells one that ends while ${command[0] ?? ''} connects from one that denies access`, async () => {
      const ending = await listen((connection) => {
        ending.close();
        connection.destroy();
      });
      const ended = await lockctl(...command).exited;
      assert.match(ended.stdout + ended.stderr, /virtlockd is not running/);
      assert.equal(ended.code, 3);
      await listen((connection) => {
        connection.destroy();
      });
      const denied = await lockctl(...command).exited;
      assert.match(denied.stdout + denied.stderr, /it runs as another user/);
      assert.equal(denied.code, 5);
    });
  }

  describe('watch', () => {
    let watched: LockDaemon;
    let tool: Running;
    /** The tool's connection, and its other half to the daemon. */
    let halves: Socket[] = [];

    const isWatched = async (): Promise<boolean> => {
      const { stdout } = await daemon.lab.run(program, ['clients', '--admin']);
      return stdout.includes('watching');
    };

    beforeEach(async () => {
      watched = daemon;
      await listen((near) => {
        const far = connect(watched.adminSocket);
        halves = [near, far];
        for (const half of halves) half.on('error', () => undefined);
        near.pipe(far).pipe(near);
      });
      tool = lockctl('watch');
      await eventually('it is subscribed', isWatched);
    });

    afterEach(async () => {
      for (const half of halves) half.destroy();
      await tool.stop('SIGKILL');
    });

    const loseConnection = (): void => {
      for (const half of halves) half.destroy();
    };

    it('says that another daemon answers now', async () => {
      watched = await startDaemon('ours');
      try {
        loseConnection();
        const { code, stderr } = await tool.exited;
        const [before, now] = [daemon.pid, watched.pid];
        assert.match(stderr, new RegExp(`pid ${before}\\) has ended; another one, pid ${now}, answers since `));
        assert.equal(code, 3);
      } finally {
        await watched.stop();
      }
    });

    it('says that the same daemon closed the connection', async () => {
      loseConnection();
      const { code, stderr } = await tool.exited;
      assert.match(stderr, new RegExp(`pid ${daemon.pid}\\) runs, but has closed this connection`));
      assert.equal(code, 1);
    });

    it('asks nobody any more when it is interrupted', async () => {
      let again = 0;
      listener?.removeAllListeners('connection').on('connection', () => again++);
      assert.equal((await tool.stop('SIGINT')).code, 0);
      assert.equal(again, 0);
    });

    it('subscribes again where that was forgotten', async () => {
      halves[1]?.write(unsubscribe);
      await eventually('it is not subscribed', async () => !(await isWatched()));
      await eventually('it is subscribed again', isWatched);
      assert.equal((await tool.stop('SIGINT')).code, 0);
    });
  });
});
