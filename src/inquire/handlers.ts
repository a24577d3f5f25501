/** The procedures of the inquire program. Dispatch has checked the flags. */
import type { Handlers } from '../../xdr/program.ts';
import {
  type inquireProcedures,
  LocksFlag,
  LockStatesFlag,
  ReleaseDeadFlag,
  SubscribeFlag,
} from '../../xdr/programs/inquire.ts';
import { describeClients } from './clients.ts';
import { describeEtcd, etcdCounters, etcdHosts, etcdLocks, etcdRevoke } from './etcd.ts';
import type { Resource } from '../lockspace/lockspaces.ts';
import type { InquireContext, InquireHost } from './host.ts';
import { describeLockStates } from './lock-states.ts';
import { describeLockspaces, matchingLocks } from './locks.ts';
import { describeOwners } from './owner-states.ts';
import { describeStatus } from './status.ts';
import { describeStorages } from './storages.ts';

export const inquireHandlers: Handlers<typeof inquireProcedures, InquireContext> = {
  locks({ connection, host: { lockspaces, inquiry } }, { filter, cursor, limit, flags }) {
    if (cursor === 0n) inquiry.awaitDescriptions(lockspaces);
    const { entries, next } = inquiry.pages.page(connection, 'locks', cursor, limit, () =>
      matchingLocks(lockspaces, filter, (flags & LocksFlag.LOOK_AT_FILES) !== 0),
    );
    return { locks: entries, next };
  },

  lockspaces({ connection, host: { lockspaces, inquiry } }, { cursor, limit }) {
    const { entries, next } = inquiry.pages.page(connection, 'lockspaces', cursor, limit, () =>
      describeLockspaces(lockspaces),
    );
    return { lockspaces: entries, next };
  },

  clients({ connection, host }, { cursor, limit }) {
    if (cursor === 0n) host.inquiry.awaitDescriptions(host.lockspaces);
    const { entries, next } = host.inquiry.pages.page(connection, 'clients', cursor, limit, () =>
      describeClients(host),
    );
    return { clients: entries, next };
  },

  refusals({ host }, { after }) {
    const found = host.inquiry.refusals.since(after);
    const { entries, more } = cutBySize(found);
    return { refusals: entries, more };
  },

  counters({ host }) {
    const counters = Object.entries({
      ...host.inquiry.counters,
      ...memoryOf(host),
      ...deathsOf(host),
      ...survivalOf(host),
      ...lossesOf(host),
      ...etcdCounters(host),
    });
    return { counters: counters.map(([name, value]) => ({ name, value })) };
  },

  status({ host }) {
    return describeStatus(host);
  },

  subscribe(client, { flags }) {
    client.host.inquiry.subscriptions.add(client, (flags & SubscribeFlag.LOCKS_LOST) !== 0);
    return undefined;
  },

  unsubscribe(client) {
    client.host.inquiry.subscriptions.remove(client);
    return undefined;
  },

  refusedRestart({ host }) {
    return { refused: host.inquiry.refusedRestart };
  },

  owners({ connection, host }, { pid, cursor, limit }) {
    const { entries, next } = host.inquiry.pages.page(connection, 'owners', cursor, limit, () =>
      describeOwners(host, pid),
    );
    return { owners: entries, next };
  },

  releaseDead({ host: { ownerReaper } }, { pid, lockspace, resource, flags }) {
    const isWanted = ({ lockspace: { directory }, name }: Resource): boolean =>
      (lockspace === null || directory === lockspace) && (resource === null || name === resource);
    return { released: ownerReaper.releaseDead(pid, isWanted, (flags & ReleaseDeadFlag.LOCAL) !== 0) };
  },

  storages({ host }) {
    return { storages: describeStorages(host.storages.views) };
  },

  refusalNotes({ host }, { after }) {
    return { notes: host.inquiry.refusals.notesSince(after) };
  },

  lockStates({ connection, host: { lockspaces, lockWatch, inquiry } }, { cursor, limit, flags }) {
    if (cursor === 0n && (flags & LockStatesFlag.ASK) !== 0) lockWatch.awaitAnswers(connection);
    const { entries, next } = inquiry.pages.page(connection, 'lockStates', cursor, limit, () =>
      describeLockStates(lockspaces, lockWatch),
    );
    return { locks: entries, next };
  },

  etcd({ host }) {
    return { etcd: describeEtcd(host) };
  },

  etcdLocks({ connection, host }, { path, after }) {
    return etcdLocks(connection, host, path, after);
  },

  etcdHosts({ connection, host }, { after }) {
    return etcdHosts(connection, host, after);
  },

  etcdRevoke({ connection, host }, { lease }) {
    etcdRevoke(connection, host, lease);
    return undefined;
  },
};

/** Gauges: locks that are lost now, those that were and are held again, and those of which nothing is known. */
function lossesOf({ lockWatch, etcd }: InquireHost): Record<string, number> {
  const losses = lockWatch.lost.map(({ file }) => file.loss?.regained ?? 0);
  const lost = losses.filter((regained) => regained === 0).length;
  return {
    lostLocks: lost + (etcd?.engine.missedCount ?? 0),
    regainedLocks: losses.length - lost,
    unconfirmedLocks: lockWatch.unknownCount,
  };
}

/** Gauges beside the counters: the memory that the locks cost, in bytes, and the most that they may cost. */
function memoryOf({ lockspaces: { memory } }: InquireHost): Record<string, number> {
  return { lockMemory: memory.used, lockMemoryMax: memory.most };
}

/** Approximate bytes of refusals in one reply. */
const REFUSALS_BYTES = 256 * 1024;

function cutBySize<T extends { readonly name: string; readonly path: string; readonly reason: string }>(
  found: T[],
): { entries: T[]; more: boolean } {
  let bytes = 0;
  const end = found.findIndex(({ name, path, reason }) => {
    bytes += name.length + path.length + reason.length + 300;
    return bytes > REFUSALS_BYTES;
  });
  return end < 1 ? { entries: found, more: false } : { entries: found.slice(0, end), more: true };
}

/** `lastDeath` is in milliseconds since 1970. */
function deathsOf({ life, lastDeath }: InquireHost): Record<string, number> {
  const { time, signal, status, gap } = lastDeath ?? {};
  return {
    deaths: life.deaths,
    ...(time === undefined ? {} : { lastDeath: time }),
    ...(signal === undefined ? {} : { lastDeathSignal: signal }),
    ...(status === undefined ? {} : { lastDeathStatus: status }),
    ...(gap === undefined ? {} : { lastDeathGap: gap }),
  };
}

/** What a death of the daemon would cost: `store` is 0 where there is no descriptor store, 2 where that is not known. */
function survivalOf({ lockspaces, survival }: InquireHost): Record<string, number> {
  if (survival?.hasStore !== true)
    return {
      store: survival === null || survival.hasStore === false ? 0 : 2,
      mortalLocks: lockspaces.count,
    };
  const { limit, stored, missing, mortalLocal, mortalRemote, memory } = survival;
  return {
    store: 1,
    storeLimit: limit,
    stored,
    storeMissing: missing,
    mortalLocks: mortalLocal + mortalRemote,
    mortalRemote,
    recordMemory: memory,
  };
}
