/** All recorded exchanges by their group, in the order of the recording. */
import type { Group } from './check.ts';
import type { Exchange } from './exchange/script.ts';
import { clients } from './groups/admin/clients.ts';
import { daemonExchanges } from './groups/admin/daemon.ts';
import { logging } from './groups/admin/logging.ts';
import { servers } from './groups/admin/servers.ts';
import { parameterExchanges } from './groups/limits/parameters.ts';
import { ownerExchanges } from './groups/lockd/owners.ts';
import { lockspaces } from './groups/lockspace/lockspaces.ts';
import { resources } from './groups/lockspace/resources.ts';
import { deviations } from './groups/ownership/deviations.ts';
import { endings } from './groups/ownership/endings.ts';
import { sharing } from './groups/ownership/sharing.ts';
import { descriptorExchanges } from './groups/wire/descriptors.ts';
import { framing } from './groups/wire/framing.ts';
import { keepaliveExchanges } from './groups/wire/keepalive.ts';

export const families: readonly (readonly [Group, readonly Exchange[]])[] = [
  ['wire', framing],
  ['wire', descriptorExchanges],
  ['wire', keepaliveExchanges],
  ['lockd', ownerExchanges],
  ['lockspace', lockspaces],
  ['lockspace', resources],
  ['ownership', sharing],
  ['ownership', endings],
  ['ownership', deviations],
  ['admin', servers],
  ['admin', clients],
  ['limits', parameterExchanges],
  ['admin', logging],
  ['admin', daemonExchanges],
];

export const exchanges: readonly Exchange[] = families.flatMap(([, members]) => members);
