/** The end of a takeover, after the requests that have waited for the re-execution. */
import type { Daemon } from '../daemon/daemon.ts';
import { ownState } from '../daemon/state.ts';
import { logger } from '../log/log.ts';
import { inodeOf } from '../lockspace/files.ts';
import { isLocalType, Mounts } from '../proc/mounts.ts';
import { captureState } from './capture.ts';
import type { ByteString } from '../../xdr/codec.ts';
import { inSlices, turn } from '../rpc/slices.ts';
import { closeOnExecInTheEnd } from './close-on-exec.ts';
import { Confirmation } from './confirm.ts';
import { descriptorsOf } from './document.ts';
import type { LockKinds } from './lock-kinds.ts';

const log = logger('locking.lock_daemon');

/** Clients adopted at once: about half a millisecond. */
const SLICE = 64;

/**
/**
 * Adopts the clients that have not called yet and the rest of the locks. Sets close-on-exec again on all inherited descriptors; nothing
 * may be spawned before. Then checks every lock, has locks be of the kind that they should be, and checks whether every locked file is
 * still at its path. Does not throw.
 */
export async function finishTakeover(daemon: Daemon, lockKinds: LockKinds): Promise<void> {
  try {
    do await turn();
    while (daemon.lockServer.adoptLate(SLICE));
    daemon.poller.endInheritance();
    await adoptLocks(daemon);
    await inSlices(daemon.ownerReaper.followAll(), () => undefined);
  } catch (error) {
    log.error(`Not all that was left is taken over: ${(error as Error).message}`);
  }
  await closeOnExecInTheEnd(() => descriptorsOf(captureState(daemon, ownState(daemon))));
  try {
    const confirmation = new Confirmation(daemon);
    await confirmation.run();
    await lockKinds.turnToOfd();
    await checkPaths(daemon, confirmation);
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

/** On local file systems only, as others may hang; that holds for every directory of the path as well. */
async function checkPaths({ lockspaces }: Daemon, confirmation: Confirmation): Promise<void> {
  const mounts = new Mounts();
  // Most are in the same directory as the one before.
  let known = { directory: '', isLocal: false };
  const isLocalPath = (path: ByteString): boolean => {
    const directory = path.slice(0, path.lastIndexOf('/') + 1);
    if (directory !== known.directory) known = { directory, isLocal: isLocalType(mounts.typeAt(directory)) };
    return known.isLocal;
  };
  await inSlices(lockspaces.resources(), ({ name, path, file }) => {
    if (confirmation.isLocal(file) && isLocalPath(path) && inodeOf(path) !== file.key)
      log.warn(`${path} is not the file any more that is held as resource '${name}'`);
  });
}
