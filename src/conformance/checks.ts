/** All checks. */
import { type Check, type ExchangeCheck, slug } from './check.ts';
import { families } from './exchanges.ts';
import { clientLimits } from './groups/limits/clients.ts';
import { sharedFiles } from './groups/lockspace/shared-files.ts';
import { restartChecks } from './groups/restart/index.ts';
import { peerChecks } from './groups/wire/peers.ts';

const recorded: readonly ExchangeCheck[] = families.flatMap(([group, members]) =>
  members.map((exchange) => ({
    name: `${group}/${slug(exchange.name)}`,
    group,
    promise: exchange.promise,
    exchange,
  })),
);

export const checks: readonly Check[] = [...recorded, ...peerChecks, ...sharedFiles, ...clientLimits, ...restartChecks];
