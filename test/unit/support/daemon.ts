/** A daemon of this process, without sockets, that has not been started. */
import { Daemon } from '../../../src/daemon/daemon.ts';
import type { ProcessHost } from '../../../src/lockd/process-host.ts';
import { poller } from './poller.ts';

export function makeDaemon(processes?: ProcessHost): Daemon {
  return new Daemon({
    poller,
    version: 12_008_000,
    maxClients: 10,
    adminMaxClients: 10,
    timeout: 0,
    life: { program: '', started: 0, executed: 0, restarts: 0, deaths: 0 },
    onEnd: () => undefined,
    ...(processes === undefined ? {} : { processes }),
  });
}
