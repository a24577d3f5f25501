/**
 * Maintainer scripts killed at every command they run, dpkg with them, and run again. In between the daemon has every lock,
 * and a working program lies at its path: a SIGUSR1 or a start at any moment must find one.
 */
import assert from 'node:assert/strict';
import type { LockRow } from '../../src/lab/observe.ts';
import { PROGRAM } from '../../src/libvirt/paths.ts';
import { skipIf } from '../support/skip.ts';
import { packageFile } from './deb.ts';
import { Scene } from './scene.ts';
import { debian12, missingRelease } from './trees.ts';

/** The commands by which the maintainer scripts change anything. */
const commands = ['ln', 'mv', 'rm', 'cp', 'mkdir', 'dpkg-divert', 'systemctl'];

/** Counts its calls; at the call whose number is in `kill-at` it kills the script that called it, and dpkg. */
const shim = (name: string): string => `#!/bin/sh
read -r caller </proc/$PPID/comm
case $caller in
  preinst | postinst | prerm | postrm | virtlockd-node.*) ;;
  *) exec /usr/bin/${name} "$@" ;;
esac
count=$(($(cat /shims/count) + 1))
echo $count >/shims/count
if [ $count = "$(cat /shims/kill-at)" ]; then
  dpkg=$(sed 's/.*) //' /proc/$PPID/stat | cut -d ' ' -f 2)
  kill -KILL $dpkg $PPID
  exit 1
fi
exec /usr/bin/${name} "$@"
`;

describe('the package, interrupted', function () {
  this.timeout(400_000);
  let scene: Scene;
  let held: LockRow[];
  let packaged: string;

  before(async function () {
    skipIf(this, missingRelease(debian12));
    packaged = packageFile();
    scene = await Scene.open(debian12);
    held = scene.locks();
    for (const name of commands) scene.lab.write(`/shims/${name}`, shim(name), 0o755);
  });

  after(async () => {
    await (scene as Scene | undefined)?.close();
  });

  /** The output of dpkg. */
  let said = '';

  /** Runs dpkg to be killed at that command. Whether it came so far. */
  async function killedAt(point: number, ...args: readonly string[]): Promise<boolean> {
    scene.lab.write('/shims/kill-at', String(point));
    scene.lab.write('/shims/count', '0');
    const { signal, code, stdout, stderr } = await scene.run('dpkg', args, {
      PATH: '/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    });
    said = stdout + stderr;
    if (signal === 'SIGKILL') return true;
    assert.equal(code, 0, `dpkg ${args.join(' ')}, not killed at ${point}: ${said}`);
    return false;
  }

  async function assertNothingLost(): Promise<void> {
    assert.notEqual(scene.runs(), undefined, `the daemon has ended: ${scene.daemon.log}`);
    assert.deepEqual(scene.locks(), held);
    assert.match(await scene.must(PROGRAM, ['--version']), /\(libvirt\)/);
    await scene.assertServes();
  }

  it('loses nothing at any command of an installation or a removal', async () => {
    let points = 0;
    for (let point = 1, more = true; more; point++) {
      const installing = await killedAt(point, '--install', packaged);
      await assertNothingLost();
      if (installing) said = await scene.must('dpkg', ['--install', packaged]);
      assert.equal(scene.runs(), 'own', said);
      await assertNothingLost();

      const removing = await killedAt(point, '--purge', 'virtlockd-node');
      await assertNothingLost();
      if (removing) said = await scene.must('dpkg', ['--purge', 'virtlockd-node']);
      assert.equal(scene.runs(), 'c', said);
      await assertNothingLost();
      await scene.assertGone();
      more = installing || removing;
      points += Number(installing) + Number(removing);
    }
    assert.ok(points > 15, `only ${points} commands were killed`);
  });

  for (const step of ['noted', 'frozen', 'signalled', 'exchanged']) {
    it(`goes on where a swap was killed when it had ${step}`, async () => {
      const { code, stderr } = await scene.run('dpkg', ['--install', packaged], { VIRTLOCKD_SWAP_FAILPOINT: step });
      assert.notEqual(code, 0, stderr);
      await scene.must('dpkg', ['--configure', '--pending']);
      assert.equal(scene.runs(), 'own');
      await assertNothingLost();
      assert.equal(await scene.maxClients(), 1024);
      await scene.must('dpkg', ['--purge', 'virtlockd-node']);
      await assertNothingLost();
      assert.equal(await scene.maxClients(), 1024);
      await scene.assertGone();
    });
  }
});
