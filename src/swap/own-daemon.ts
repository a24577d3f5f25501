/** What our own daemon tells of itself while its program is exchanged. Where an older one does not, nothing is known. */
import { type ClientInfo, inquireProgram } from '../../xdr/programs/inquire.ts';
import type { Client } from '../client/client.ts';
import { RemoteFailure } from '../client/errors.ts';
import { printable } from '../log/printable.ts';

/** Its name in the counters, and what the warning begins with that says why (src/inquire). */
const COUNTER = 'restartsRefused';
const WARNING = /^the re-execution of .* was refused: /;

/** Clients of the lock server that have not registered: a C daemon takes them over, and then cannot execute itself again. */
export async function unregisteredClients(admin: Client): Promise<ClientInfo[]> {
  const found: ClientInfo[] = [];
  try {
    let cursor = 0n;
    do {
      const { clients, next } = await admin.call(inquireProgram, 'clients', { cursor, limit: 0, flags: 0 });
      found.push(...clients.filter(({ server, owner }) => server === 'virtlockd' && owner === null));
      cursor = next;
    } while (cursor !== 0n);
  } catch (error) {
    if (!(error instanceof RemoteFailure)) throw error;
  }
  return found;
}

/**
 * Asks the daemon over and over, one call at a time and each time the result is called, whether it has refused to execute
 * its program since. The result's result is why, once it has.
 */
export async function watchRefusals(admin: Client): Promise<() => string | undefined> {
  const count = async (): Promise<number> => {
    const { counters } = await admin.call(inquireProgram, 'counters', { flags: 0 });
    return counters.find(({ name }) => name === COUNTER)?.value ?? 0;
  };
  const before = await count().catch((error: unknown) => {
    if (error instanceof RemoteFailure) return Infinity;
    throw error;
  });
  const look = async (): Promise<void> => {
    if ((await count()) <= before) return;
    const { warnings } = await admin.call(inquireProgram, 'status', { flags: 0 });
    const said = warnings.find((warning) => WARNING.test(warning))?.replace(WARNING, '');
    reason = said === undefined ? 'it does not say why' : printable(said);
  };
  let reason: string | undefined;
  let looking = before === Infinity;
  return () => {
    if (!looking) {
      looking = true;
      look().then(
        () => (looking = false),
        // It has become another program, or is no more: then it is asked no more either.
        () => undefined,
      );
    }
    return reason;
  };
}
