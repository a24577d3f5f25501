/** Whether what a rehearsal missed is there: it looked a moment after the document was written, and service went on. */
import type { Daemon } from '../daemon/daemon.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import { inSlices } from '../rpc/slices.ts';
import type { Loss, LostClient, LostResource } from './rehearse.ts';

/** What the daemon still has as it is in the document, and its successor would lose; in words. Undefined when there is nothing. */
export async function findLoss(daemon: Daemon, losses: readonly Loss[]): Promise<string | undefined> {
  const byDescriptor = new Map<number, LostResource>();
  for (const loss of losses) {
    if (loss.kind === 'resource') byDescriptor.set(loss.fd, loss);
    else if (isConnected(daemon, loss)) return `would lose client ${loss.id} of server ${loss.server}`;
  }
  if (byDescriptor.size === 0) return undefined;
  let lost: Resource | undefined;
  await inSlices(daemon.lockspaces.resources(), (resource) => {
    const { file } = resource;
    if (!file.locked) return;
    for (const fd of [file.fd, ...file.deferredFds]) if (isSame(resource, byDescriptor.get(fd))) lost = resource;
  });
  return lost && `would lose the lock of resource '${lost.name}'`;
}

function isConnected(daemon: Daemon, { server, id, fd }: LostClient): boolean {
  const { adminServer, lockServer } = daemon;
  const clients = server === 'admin' ? adminServer.adoptAll() : lockServer.adoptAll();
  return clients.get(id)?.fd === fd;
}

/** Whether it was held all the time since the document was written. */
function isSame({ file, holds }: Resource, loss: LostResource | undefined): boolean {
  return loss?.key === file.key && holds.some(({ since }) => since === loss.since);
}
