/** The process outlives SIGUSR1, with its files, and survives faults. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDescriptors } from '../../../../proc/descriptors.ts';
import { commandLineOf } from '../../../../proc/processes.ts';
import { lock } from '../../../../lab/wire.ts';
import type { WrittenCheck } from '../../check.ts';
import { restartCheck } from './restart-check.ts';
import { programPath, refused, busy, type Scene } from './scene.ts';

const fatal = 'C has given up everything by the time it finds out, and exits with every lock lost';

/** Outside paths of the daemon's files. */
const kept = ({ place }: Scene, name: string): string =>
  // A session daemon keeps them with its sockets.
  place.outside(join(place.sockets === '/run/libvirt' ? '/run' : place.sockets, name));
const stateFile = (scene: Scene): string => kept(scene, 'virtlockd-restart-exec.json');
const pidFile = (scene: Scene): string => kept(scene, 'virtlockd.pid');

/** A restart that must fail: nothing changes, and the next one, with nothing wrong, succeeds. */
function fault(
  name: string,
  promise: string,
  breakIt: (scene: Scene) => void,
  repair: (scene: Scene) => void,
): WrittenCheck {
  const run = async (scene: Scene): Promise<void> => {
    const { holder, disk } = await scene.held();
    const before = scene.daemon.locks();
    breakIt(scene);
    await scene.refuses();
    assert.deepEqual(scene.daemon.locks(), before);
    await refused(holder, lock.acquire('', disk), busy);
    repair(scene);
    await scene.restart();
    await holder.must(lock.release('', disk));
  };
  return restartCheck(name, promise, run, { known: fatal });
}

const goesOn = 'The daemon goes on as it is, with an error in its log.';

/** Successors that must not be executed: the script in the program's place, if any, and its mode. */
const successors: readonly (readonly [string, string, string?, number?])[] = [
  ['is missing', goesOn],
  ['may not be executed', goesOn, '#!/bin/sh\n', 0o644],
  ['fails', 'The daemon finds out before it gives anything up, and goes on as it is.', '#!/bin/sh\nexit 1\n'],
  ['is no lock daemon', 'A program that does something else gets no lock.', '#!/bin/sh\necho hello\n'],
];

export const processChecks: readonly WrittenCheck[] = [
  restartCheck(
    'the process stays',
    'The pid is the same, and so are the arguments.',
    async (scene) => {
      // Without the interpreter, which comes first.
      const words = (): string[] => commandLineOf(scene.daemon.pid).slice(-3);
      const before = words();
      await scene.restart();
      assert.deepEqual(words(), before);
      assert.equal(scene.daemon.finished, undefined);
    },
    { start: { args: ['--timeout', '600'] } },
  ),
  restartCheck('the sockets stay', 'They are the same files: no client has to find new ones.', async (scene) => {
    const inodes = (): number[] => [scene.daemon.socket, scene.daemon.adminSocket].map((path) => lstatSync(path).ino);
    const before = inodes();
    await scene.restart();
    assert.deepEqual(inodes(), before);
  }),
  restartCheck('the pid file stays', 'It names the process, and is locked.', async (scene) => {
    await scene.restart();
    assert.equal(Number(readFileSync(pidFile(scene), 'latin1')), scene.daemon.pid);
    assert.equal(scene.lockOn(pidFile(scene)), 'WRITE 0 0');
  }),
  restartCheck(
    'no second daemon starts afterwards',
    'The pid file keeps it away, with exit status 1.',
    async (scene) => {
      await scene.restart();
      const second = await scene.place.run(programPath(scene.place), []);
      assert.equal(second.code, 1);
      await scene.answers();
    },
  ),
  restartCheck('the state file is removed', 'The daemon that reads it removes it.', async (scene) => {
    await scene.restart();
    assert.ok(!existsSync(stateFile(scene)));
  }),
  restartCheck(
    'the state of another process is not believed',
    'A daemon that finds it removes it and starts without locks.',
    async (scene) => {
      await scene.restart();
      const state = { magic: '1', defaultLockspace: { resources: [] }, lockspaces: [] };
      writeFileSync(stateFile(scene), JSON.stringify(state), { mode: 0o700 });
      await scene.daemon.stop();
      const fresh = await scene.startAgain();
      assert.ok(!existsSync(stateFile(scene)));
      assert.equal(fresh.finished, undefined);
    },
  ),
  restartCheck('descriptors do not pile up', 'After a restart as many are open as before.', async (scene) => {
    await (await scene.owner()).must(lock.acquire('', scene.file('disk')));
    const open = (): number => openDescriptors(scene.daemon.pid).length;
    await scene.restart();
    const first = open();
    for (let count = 0; count < 5; count++) await scene.restart();
    await scene.until('as many are open', () => open() <= first);
  }),
  restartCheck(
    'SIGTERM afterwards ends the daemon',
    'It exits with status 0 and removes its sockets and its pid file.',
    async (scene) => {
      await scene.restart();
      const { code, signal } = await scene.daemon.stop();
      assert.deepEqual([code, signal], [0, null]);
      for (const path of [scene.daemon.socket, scene.daemon.adminSocket, pidFile(scene)])
        assert.ok(!existsSync(path), path);
    },
  ),
  restartCheck('SIGTERM afterwards releases every lock', 'No lock of the former program is left.', async (scene) => {
    const { disk } = await scene.held();
    await scene.restart();
    await scene.daemon.stop();
    assert.equal(scene.lockOn(disk), undefined);
  }),
  restartCheck(
    'a storm of SIGUSR1 is survived',
    'However many signals follow each other, none is fatal, and the last one is honoured.',
    async (scene) => {
      const { disk, holder } = await scene.held();
      for (let count = 0; count < 200; count++) {
        process.kill(scene.daemon.pid, 'SIGUSR1');
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await scene.answers();
      await scene.restart();
      assert.equal(scene.lockOn(disk), 'WRITE 0 0');
      await holder.must(lock.release('', disk));
    },
    { known: 'a signal that meets the new program before it has its handler kills it' },
  ),
  ...successors.map(([title, promise, script, mode]) =>
    fault(
      `a successor that ${title} is not executed`,
      promise,
      (scene) => scene.replaceProgram(script, mode),
      (scene) => scene.restoreProgram(),
    ),
  ),
  fault(
    'a state that cannot be written is no end',
    goesOn,
    (scene) => mkdirSync(stateFile(scene)),
    (scene) => rmSync(stateFile(scene), { recursive: true }),
  ),
];
