/** Asks our daemon about its clients and refusals during an exchange. An older release may not answer. */
import { setTimeout as pause } from 'node:timers/promises';
import { adminProgram } from '../../xdr/programs/admin.ts';
import { type ClientInfo, inquireProgram } from '../../xdr/programs/inquire.ts';
import type { Client } from '../client/client.ts';
import { RemoteFailure } from '../client/errors.ts';
import { printable } from '../log/printable.ts';
import { Unsafe } from './errors.ts';

/** How long clients that have just connected may take to register, in milliseconds. */
const REGISTER_MS = 5_000;
const POLL_MS = 100;

/** The clients that have not registered. A C daemon that takes them over cannot execute itself again. */
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
 * Waits until every client has registered, or with `force` closes those that do not in that time. libvirt's daemon would take over a client that
 * has not, could not distinguish it from others, and would not survive its own next re-execution with it. @throws Unsafe
 */
export async function awaitRegistered(admin: Client, force: boolean): Promise<void> {
  const until = performance.now() + REGISTER_MS;
  const found = new Map<number, number>();
  for (;;) {
    const unregistered = await unregisteredClients(admin);
    const [one] = unregistered;
    if (one === undefined) return;
    const now = performance.now();
    if (!force && now > until) {
      throw new Unsafe(
        `client ${one.id} (pid ${one.pid}) is connected and has not registered, and libvirt's lock daemon would not survive its next re-execution with it: close it by virt-admin client-disconnect or --force`,
      );
    }
    for (const { id, connectedAt } of unregistered) {
      // Not at once: it may be a guest that registers now, whose process would be killed.
      if (!found.has(id)) found.set(id, now);
      if (!force || now < (found.get(id) ?? now) + REGISTER_MS) continue;
      const client = { server: { name: 'virtlockd' }, id: BigInt(id), timestamp: BigInt(connectedAt), transport: 0 };
      await admin.call(adminProgram, 'closeClient', { client, flags: 0 });
    }
    await pause(POLL_MS);
  }
}

/**
 * Returns a function that asks the daemon, one call at a time, whether it has refused to execute its program since. Once it
 * has, that function returns the reason.
 */
export async function watchRefusals(admin: Pick<Client, 'call'>): Promise<() => string | undefined> {
  const count = async (): Promise<number> => {
    const { counters } = await admin.call(inquireProgram, 'counters', { flags: 0 });
    return counters.find(({ name }) => name === 'restartsRefused')?.value ?? 0;
  };
  const before = await count().catch((error: unknown) => {
    if (error instanceof RemoteFailure) return Infinity;
    throw error;
  });
  const ask = async (): Promise<void> => {
    if ((await count()) > before) reason = await reasonOf(admin);
  };
  let reason: string | undefined;
  let isAsking = before === Infinity;
  return () => {
    if (!isAsking) {
      isAsking = true;
      ask().then(
        () => (isAsking = false),
        // The daemon has become another program, or has ended: do not ask again.
        () => undefined,
      );
    }
    return reason;
  };
}

/** The reason of the last refusal. An older release does not have this procedure, and reports the reason in its log only. */
async function reasonOf(admin: Pick<Client, 'call'>): Promise<string> {
  try {
    const { refused } = await admin.call(inquireProgram, 'refusedRestart', { flags: 0 });
    if (refused !== null) return printable(refused.reason);
  } catch (error) {
    if (!(error instanceof RemoteFailure)) throw error;
  }
  return 'this release of the daemon gives the reason in its log only';
}
