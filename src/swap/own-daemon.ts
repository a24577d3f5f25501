/** What our own daemon tells of itself while its program is exchanged. Where an older one does not, nothing is known. */
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { type ClientInfo, inquireProgram } from '../../xdr/programs/inquire.ts';
import type { Client } from '../client/client.ts';
import { RemoteFailure } from '../client/errors.ts';
import { printable } from '../log/printable.ts';
import { Unsafe } from './errors.ts';

/** How long clients that have just connected may take to register, in milliseconds. */
const QUIET_MS = 5_000;
const QUIET_LOOK_MS = 100;

/** Its name in the counters. */
const COUNTER = 'restartsRefused';

/** Clients of the lock server that have not registered: a C daemon takes them over, and then cannot execute itself again. */
export async function unregisteredClients(admin: Pick<Client, 'call'>): Promise<ClientInfo[]> {
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
 * A client that has not registered would be taken over by libvirt's daemon, which can tell it from no other and does not
 * survive its own next re-execution with it. Who has just connected is given time. @throws Unsafe
 */
export async function awaitRegistered(admin: Client, force: boolean): Promise<void> {
  const until = performance.now() + QUIET_MS;
  for (;;) {
    const [one] = await unregisteredClients(admin);
    if (one === undefined) return;
    if (force) {
      const client = {
        server: { name: 'virtlockd' },
        id: BigInt(one.id),
        timestamp: BigInt(one.connectedAt),
        transport: 0,
      };
      await admin.call(adminProgram, 'closeClient', { client, flags: 0 });
    } else if (performance.now() > until) {
      throw new Unsafe(
        `client ${one.id} (pid ${one.pid}) is connected and has not registered, and libvirt's lock daemon would not survive its next re-execution with it; virt-admin client-disconnect ends it, as --force does`,
      );
    }
    await pause(QUIET_LOOK_MS);
  }
}

/**
 * Asks the daemon over and over, one call at a time and each time the result is called, whether it has refused to execute
 * its program since. The result's result is why, once it has.
 */
export async function watchRefusals(admin: Pick<Client, 'call'>): Promise<() => string | undefined> {
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
    reason = await reasonOf(admin);
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

/** Why the daemon refused the last time. A release before this procedure says it in words for people alone, and in its log. */
async function reasonOf(admin: Pick<Client, 'call'>): Promise<string> {
  try {
    const { refused } = await admin.call(inquireProgram, 'refusedRestart', { flags: 0 });
    if (refused !== null) return printable(refused.reason);
  } catch (error) {
    if (!(error instanceof RemoteFailure)) throw error;
  }
  return 'it does not say why';
}
