/** A host without a guard that would end its owners: nothing more is granted to them, and nobody is ended, until there is one again. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd } from '../../../src/lab/requirements.ts';
import type { LockDaemon } from '../../../src/lab/start.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { autocreate, type Call, lock, type Peer, shared } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';
import { EtcdScene, guardsOf, type Owner, SPACE } from './scene.ts';

const UNREACHABLE = 38;
const PROGRAM = join(checkout, 'dist/etcd-guard');
const take = (name: string, flags = 0): Call => lock.acquire(SPACE, name, flags | autocreate);

describe('locks in etcd while no guard runs', function () {
  this.timeout(60_000);
  let scene: EtcdScene;
  let daemon: LockDaemon;
  let owner: Owner;
  let peer: Peer;

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingEtcd());
    scene = await EtcdScene.open({ seconds: 6 });
    daemon = await scene.daemon();
    owner = scene.owner();
    peer = await scene.join(daemon, owner.pid);
    await peer.must(take('first'));
    await peer.must(take('common', shared));
  });

  after(async () => {
    await EtcdScene.closeAll();
  });

  const must = async (program: string, ...args: readonly string[]): Promise<void> => {
    const { code, stderr } = await daemon.lab.run(program, args);
    assert.equal(code, 0, stderr);
  };

  const findings = async (): Promise<string[]> => {
    const { stdout } = await daemon.lab.run(join(checkout, 'bin/virt-lockctl'), ['health', '--json']);
    const health = JSON.parse(stdout) as { findings: { kind: string }[] };
    return health.findings.map(({ kind }) => kind);
  };

  it('are granted to nobody, and those that are held stay', async () => {
    assert.ok(!(await findings()).includes('etcd-unguarded'));
    const [guard = 0] = guardsOf(daemon);
    // The daemon starts another one, which ends at once.
    await must('mount', '--bind', '/bin/false', PROGRAM);
    process.kill(guard, 'SIGKILL');
    await eventually('it is noticed', () =>
      daemon.log.includes('Cannot start the guard of locks in etcd: its program ended'),
    );
    const other = await scene.join(daemon);
    const refuse = async (asker: Peer, name: string): Promise<void> => {
      for (const call of [take(name), take('common', shared)]) {
        const error = await asker.ask(call);
        assert.equal(error?.code, UNREACHABLE);
        assert.match(error.message ?? '', /the guard of locks in etcd does not answer$/);
      }
    };
    await Promise.all([refuse(peer, 'second'), refuse(other, 'third')]);
    assert.deepEqual(guardsOf(daemon), []);
    assert.ok((await findings()).includes('etcd-unguarded'));
    await eventually('what was granted by etcd is given back', () => scene.keys().length === 2);
    assert.doesNotThrow(() => process.kill(owner.pid, 0));
    await peer.must(lock.release(SPACE, 'first'));
    await peer.must(lock.release(SPACE, 'common'));
  });

  it('are granted again once one does, which has the owners', async () => {
    await must('umount', PROGRAM);
    await eventually('a guard runs', () => guardsOf(daemon).length === 1);
    await eventually('a lock is granted', async () => (await peer.ask(take('second'))) === undefined);
    await peer.must(take('common', shared));
    assert.ok(!(await findings()).includes('etcd-unguarded'));
    process.kill(daemon.pid, 'SIGSTOP');
    await owner.ended;
    process.kill(daemon.pid, 'SIGCONT');
  });
});
