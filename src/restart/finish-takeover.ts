/** What a re-execution leaves for later, so that the requests which have waited for it are served first. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Daemon } from '../daemon/daemon.ts';
import { logger } from '../log/log.ts';
import { inodeOf } from '../lockspace/files.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import { captureState } from './capture.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { closeOnExecInTheEnd } from './close-on-exec.ts';
import { Confirmation } from './confirm.ts';
import { descriptorsOf, type OwnState } from './document.ts';
import type { LockKinds } from './lock-kinds.ts';
import { inSlices } from './slices.ts';

const log = logger('locking.lock_daemon');

/** How many clients are taken over at once: about half a millisecond's worth. */
const SLICE = 64;

/**
 * Takes over the clients that have not called and the locks that nobody asked for. Marks all that was taken over to be closed on exec
 * again; nothing may be spawned before. Then looks whether every lock is there, and every locked file at its path, and has locks be of
 * the kind that they should be. Does not throw.
 */
export async function finishTakeover(daemon: Daemon, lockKinds: LockKinds, ownState: () => OwnState): Promise<void> {
  try {
    do await turn();
    while (daemon.lockServer.adoptLate(SLICE));
    daemon.poller.endInheritance();
    await adoptLocks(daemon);
  } catch (error) {
    log.error(`Not all that was left is taken over: ${(error as Error).message}`);
  }
  await closeOnExecInTheEnd(() => descriptorsOf(captureState(daemon, ownState())));
  try {
    const confirmation = new Confirmation(daemon);
    await confirmation.run();
    await lockKinds.turnToOfd();
    await lookAtPaths(daemon, confirmation);
  } catch (error) {
    log.error(`Locks are not confirmed: ${(error as Error).message}`);
  }
}

async function adoptLocks({ lockspaces }: Daemon): Promise<void> {
  const rest = {
    *[Symbol.iterator](): Generator<undefined> {
      while (lockspaces.adoptNext()) yield;
    },
  };
  await inSlices(rest, () => undefined);
  log.info(`Resumed with ${lockspaces.count} locks`);
}

/** Elsewhere than on local file systems nobody may answer; also of a local file, when its path leads through such a one. */
async function lookAtPaths({ lockspaces }: Daemon, confirmation: Confirmation): Promise<void> {
  const mounts = new Mounts();
  // Most are in the directory of the one before.
  let known = { directory: '', isLocal: false };
  const leadsThere = (path: ByteString): boolean => {
    const directory = path.slice(0, path.lastIndexOf('/') + 1);
    if (directory !== known.directory) known = { directory, isLocal: isLocalType(mounts.typeAt(directory)) };
    return known.isLocal;
  };
  await inSlices(lockspaces.resources(), ({ name, path, file }) => {
    if (confirmation.isLocal(file) && leadsThere(path) && inodeOf(path) !== file.key)
      log.warn(`${path} is not the file any more that is held as resource '${name}'`);
  });
}
