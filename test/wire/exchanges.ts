/** All exchanges, in the order in which they are played. */
import type { Exchange } from './script.ts';
import { clients } from './admin/clients.ts';
import { daemonExchanges } from './admin/daemon.ts';
import { logging } from './admin/logging.ts';
import { parameterExchanges } from './admin/parameters.ts';
import { servers } from './admin/servers.ts';
import { descriptorExchanges } from './lock/descriptors.ts';
import { deviations } from './lock/deviations.ts';
import { endings } from './lock/endings.ts';
import { framing } from './lock/framing.ts';
import { keepaliveExchanges } from './lock/keepalive.ts';
import { lockspaces } from './lock/lockspaces.ts';
import { ownerExchanges } from './lock/owners.ts';
import { resources } from './lock/resources.ts';
import { sharing } from './lock/sharing.ts';

export const lockExchanges: readonly Exchange[] = [
  ...framing,
  ...descriptorExchanges,
  ...keepaliveExchanges,
  ...ownerExchanges,
  ...lockspaces,
  ...resources,
  ...sharing,
  ...endings,
  ...deviations,
];

export const adminExchanges: readonly Exchange[] = [
  ...servers,
  ...clients,
  ...parameterExchanges,
  ...logging,
  ...daemonExchanges,
];

export const exchanges: readonly Exchange[] = [...lockExchanges, ...adminExchanges];
