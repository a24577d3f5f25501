/** All checks. */
import { type Check, type ExchangeCheck, slug } from './check.ts';
import { readTranscripts } from './exchange/recording.ts';
import type { Exchange } from './exchange/script.ts';
import { families } from './exchanges.ts';
import { cliChecks } from './groups/command-line/index.ts';
import { inquireChecks } from './groups/inquire/index.ts';
import { clientLimits } from './groups/limits/clients.ts';
import { sharedFiles } from './groups/lockspace/shared-files.ts';
import { restartChecks } from './groups/restart/index.ts';
import { peerChecks } from './groups/wire/peers.ts';

const transcripts = readTranscripts('9.0.0');

/** Calls that change a daemon for good: nobody removes a lockspace, and the admin program sets limits and logs. */
const lasting = / > CALL (lock [38]|admin (7|11|13|16|17|19|20)) #/;

/** Whether an exchange may be played to a daemon that runs already: as recorded, it leaves no lock, lockspace or setting. */
function isHarmless({ fresh, spoils, name }: Exchange): boolean {
  if (fresh === true || spoils === true) return false;
  const lines = transcripts.get(name) ?? [];
  const end = lines.findLastIndex((line) => !/^(\d+ times: )?(tree|lock|open|none open)\b/.test(line)) + 1;
  return !lines.some((line) => lasting.test(line)) && !lines.slice(end).some((line) => line.startsWith('lock:'));
}

/** Exchanges that were recorded as root and go differently with an ordinary user's daemon. */
const rootOnly: readonly (readonly [RegExp, string])[] = [
  [/ a file of mode 0$/, 'root alone may open any file'],
  [/ a device$/, 'root alone may make a device'],
  [/^CREATE_LOCKSPACE: where no directory can be made, in \/sys$/, 'an ordinary user is refused otherwise'],
  [/^(NEW|CREATE_LOCKSPACE): a relative path$/, 'makes a directory below /run'],
  [/^CREATE_LOCKSPACE: a path of 6000 bytes$/, 'makes directories below /'],
  [/^NEW with bytes behind its arguments$/, 'makes a directory below /'],
  [/^SET_OUTPUTS: relative files$/, 'makes a file below /run'],
  [/^CLIENT_INFO( whatever.*)?$/, 'was recorded of a client that is root'],
];

const recorded: readonly ExchangeCheck[] = families.flatMap(([group, members]) =>
  members.map((exchange) => ({
    name: `${group}/${slug(exchange.name)}`,
    group,
    promise: exchange.promise,
    harmless: isHarmless(exchange),
    rootOnly: rootOnly.find(([pattern]) => pattern.test(exchange.name))?.[1],
    exchange,
  })),
);

export const checks: readonly Check[] = [
  ...recorded,
  ...peerChecks,
  ...sharedFiles,
  ...clientLimits,
  ...restartChecks,
  ...cliChecks,
  ...inquireChecks,
];
