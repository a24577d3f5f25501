/** All checks. */
import { type Check, type ExchangeCheck, slug } from './check.ts';
import { families } from './exchanges.ts';

const recorded: readonly ExchangeCheck[] = families.flatMap(([group, members]) =>
  members.map((exchange) => ({
    name: `${group}/${slug(exchange.name)}`,
    group,
    promise: exchange.promise,
    exchange,
  })),
);

export const checks: readonly Check[] = [...recorded];
