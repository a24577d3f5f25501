/** A daemon of this process, without sockets, that has not been started. */
import { Daemon, type DaemonSettings } from '../../../src/daemon/daemon.ts';
import type { ProcessHost } from '../../../src/lockd/process-host.ts';
import { Routes } from '../../../src/proc/route.ts';
import { poller } from './poller.ts';

export function makeDaemon(processes?: ProcessHost, keeper?: DaemonSettings['keeper']): Daemon {
  return new Daemon({
    poller,
    version: 12_008_000,
    maxClients: 100,
    adminMaxClients: 100,
    timeout: 0,
    life: { program: '', started: 0, executed: 0, restarts: 0, deaths: 0 },
    onEnd: () => undefined,
    // It starts no storage helper.
    routes: new Routes({ mounts: () => new Map() }),
    ...(processes === undefined ? {} : { processes }),
    ...(keeper === undefined ? {} : { keeper }),
  });
}
