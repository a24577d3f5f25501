/** What a re-execution leaves for later, so that the requests which have waited for it are served first. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Daemon } from '../daemon/daemon.ts';
import { logger } from '../daemon/log/log.ts';
import { inodeOf } from '../lockspace/files.ts';
import { poller } from '../rpc/poller.ts';
import { descriptorsOf } from './capture.ts';
import { setCloseOnExecInSlices } from './close-on-exec.ts';
import type { OwnState } from './document.ts';
import { inSlices } from './slices.ts';

const log = logger('locking.lock_daemon');

/** How many clients are taken over at once: about half a millisecond's worth. */
const SLICE = 64;

/**
 * Takes over the clients that have not called, says which locked files are not at their paths any more, and marks all that
 * was taken over to be closed on exec again. Nothing may be spawned before. Does not throw.
 */
export async function settle(daemon: Daemon, own: OwnState): Promise<void> {
  try {
    do await turn();
    while (daemon.lockServer.takeLate(SLICE));
    poller.endInheritance();
    await lookAtPaths(daemon);
    await setCloseOnExecInSlices(descriptorsOf(daemon, own), true);
  } catch (error) {
    log.error(`Descriptors stay open in what is spawned: ${(error as Error).message}`);
  }
}

async function lookAtPaths({ lockspaces }: Daemon): Promise<void> {
  await inSlices(lockspaces.resources(), ({ name, path, file }) => {
    if (inodeOf(path) !== file.key) log.warn(`${path} is not the file any more that is held as resource '${name}'`);
  });
}
