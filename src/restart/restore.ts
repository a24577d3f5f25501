/** The daemon that a state document describes. */
import { Daemon, type DaemonSettings, type ServerShape } from '../daemon/daemon.ts';
import { adoptState } from './adopt.ts';
import type { ServerHead } from '../rpc/state.ts';
import type { Predecessor } from './predecessor.ts';

/** Not started yet. */
export function restoreDaemon(settings: DaemonSettings, predecessor: Predecessor): Daemon {
  const { lockServer, adminServer } = predecessor.document;
  const daemon = new Daemon(settings, {
    lock: shapeOf(lockServer),
    ...(adminServer === null ? {} : { admin: shapeOf(adminServer) }),
  });
  adoptState(daemon, predecessor);
  return daemon;
}

function shapeOf(server: ServerHead): ServerShape {
  return {
    maxClients: server.max_clients,
    maxAnonymousClients: server.max_anonymous_clients,
    nextClientId: server.next_client_id,
  };
}
