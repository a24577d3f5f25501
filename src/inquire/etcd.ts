/** What operators ask about locks in etcd. The answers of etcd come later: a call waits for them, and is made again. */
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { ETCD_OWNERS_MAX, type EtcdHost, type EtcdInfo, type EtcdLock } from '../../xdr/programs/inquire.ts';
import type { Reply } from '../etcd/client.ts';
import type { EtcdEngine } from '../etcd/engine.ts';
import type { GuardFacts } from '../etcd/guard.ts';
import { endOfPrefix, hostPrefix, leaseNamed, lockPrefix, partsOfKey, resourceKey } from '../etcd/keys.ts';
import type { Args, Entry, OperationName, Result } from '../etcd/messages.ts';
import { parseValue } from '../etcd/values.ts';
import { RpcError } from '../libvirt/errors.ts';
import type { Connection } from '../rpc/connection.ts';
import { Waiting } from '../rpc/waiting.ts';
import type { InquireHost } from './host.ts';

/** Keys that etcd is asked for at once. */
const PAGE = 64;

/** The locks in etcd, as this room sees them. */
export interface EtcdView {
  readonly engine: EtcdEngine;
  /** Null: there is no guard. */
  readonly guardFacts: GuardFacts | null;
  /** Whether the guard runs, and has every owner. */
  readonly isGuarded: boolean;
}

/** The answers that wait for a call to be made again. */
const found = new WeakMap<Connection, { readonly question: string; readonly reply: Reply<OperationName> }>();

/** @throws Waiting; RpcError when etcd does not answer, or refuses */
function ask<N extends OperationName>(connection: Connection, { engine }: EtcdView, name: N, args: Args<N>): Result<N> {
  const question = JSON.stringify([name, args]);
  const known = found.get(connection);
  if (known?.question === question) {
    found.delete(connection);
    const { reply } = known;
    if (reply.ok) return reply.result;
    throw new RpcError(ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC, reply.text);
  }
  throw new Waiting((done) => {
    let isForgotten = false;
    engine.request(name, args, (reply) => {
      if (isForgotten) return;
      found.set(connection, { question, reply: reply });
      done();
    });
    return () => {
      isForgotten = true;
    };
  });
}

/** @throws RpcError when there is none */
function etcdOf({ etcd }: InquireHost): EtcdView {
  if (etcd !== null) return etcd;
  throw new RpcError(
    ErrorCode.OPERATION_INVALID,
    ErrorDomain.RPC,
    'no lockspace is kept in etcd: etcd_endpoints in virtlockd.conf names its members',
  );
}

export function describeEtcd({ etcd }: InquireHost): EtcdInfo | null {
  if (etcd === null) return null;
  const { engine, guardFacts, isGuarded } = etcd;
  const { settings, lease } = engine;
  const { id = '', seconds = 0, isOver = false } = lease.state ?? {};
  return {
    endpoints: [...settings.endpoints].slice(0, 64),
    lockspaces: [...settings.lockspaces].slice(0, 64),
    prefix: settings.prefix,
    lease: id,
    seconds,
    age: Math.max(Math.round(lease.age), 0),
    left: id === '' ? 0 : Math.max(Math.round(lease.left), 0),
    isOver,
    failure: lease.lastFailure,
    locks: engine.count,
    owners: engine.ownerCount,
    isGuarded,
    guard: guardFacts?.pid ?? 0,
    hasWatchdog: guardFacts?.feedsWatchdog ?? false,
    watchdog: settings.watchdog,
    reboots: guardFacts?.mayReboot ?? false,
  };
}

export function etcdLocks(
  connection: Connection,
  host: InquireHost,
  path: string | null,
  after: string,
): { locks: EtcdLock[]; next: string } {
  const etcd = etcdOf(host);
  const { prefix } = etcd.engine.settings;
  const first = path === null ? `${lockPrefix(prefix)}/` : `${resourceKey(prefix, path)}//`;
  const from = after === '' ? first : `${after}\0`;
  const { entries, more } = ask(connection, etcd, 'list', { from, end: endOfPrefix(first), limit: PAGE });
  const last = entries.at(-1)?.key ?? '';
  return { locks: entries.flatMap((entry) => lockOf(prefix, entry)), next: more ? last : '' };
}

function lockOf(prefix: string, { key, value, lease, created }: Entry): EtcdLock[] {
  const parts = partsOfKey(prefix, key);
  if (parts === null || parts.kind === 'exists') return [];
  const note = parseValue(value);
  return [
    {
      path: parts.path,
      shared: parts.kind === 'shared',
      host: note?.host ?? '',
      lease,
      revision: created,
      since: note?.since ?? 0,
      owners: (note?.owners ?? []).slice(0, ETCD_OWNERS_MAX),
      ownerCount: note?.count ?? 0,
    },
  ];
}

export function etcdHosts(
  connection: Connection,
  host: InquireHost,
  after: string,
): { hosts: EtcdHost[]; next: string } {
  const etcd = etcdOf(host);
  const first = hostPrefix(etcd.engine.settings.prefix);
  const from = after === '' ? first : `${after}\0`;
  const { hosts, more } = ask(connection, etcd, 'hosts', { from, end: endOfPrefix(first), limit: PAGE });
  const last = hosts.at(-1)?.key ?? '';
  const found = hosts.flatMap(({ key, value, left }) => {
    const lease = leaseNamed(key.slice(first.length));
    if (lease === undefined) return [];
    const { host: name = '', pid = 0, since = 0, seconds = 0 } = parseHost(value);
    return [
      { host: name, lease, pid: pid >>> 0, since: Math.max(since, 0), seconds: seconds >>> 0, left: Math.max(left, 0) },
    ];
  });
  return { hosts: found, next: more ? last : '' };
}

interface HostValue {
  readonly host?: string;
  readonly pid?: number;
  readonly since?: number;
  readonly seconds?: number;
}

function parseHost(value: string): HostValue {
  try {
    const { host, pid, since, seconds } = JSON.parse(value) as HostValue;
    const isSound = typeof host === 'string' && [pid, since, seconds].every((one) => Number.isSafeInteger(one));
    return isSound ? ({ host, pid, since, seconds } as HostValue) : {};
  } catch {
    return {};
  }
}

export function etcdRevoke(connection: Connection, host: InquireHost, lease: string): void {
  const etcd = etcdOf(host);
  if (!/^[0-9]{1,20}$/.test(lease))
    throw new RpcError(ErrorCode.INVALID_ARG, ErrorDomain.RPC, `'${lease}' is no lease`);
  if (lease === etcd.engine.lease.state?.id)
    throw new RpcError(
      ErrorCode.OPERATION_INVALID,
      ErrorDomain.RPC,
      'it is the lease of this host, whose guests it would kill',
    );
  ask(connection, etcd, 'revoke', { lease });
}

/** Gauges, where lockspaces are kept in etcd. */
export function etcdCounters(host: InquireHost): Record<string, number> {
  const info = describeEtcd(host);
  if (info === null) return {};
  return {
    etcdLocks: info.locks,
    etcdOwners: info.owners,
    etcdOwnersKilled: host.etcd?.engine.killed ?? 0,
    etcdLeaseAge: info.age,
    etcdLeaseLeft: info.left,
    etcdLeaseHeld: info.lease !== '' && !info.isOver ? 1 : 0,
    etcdAnswers: info.failure === '' ? 1 : 0,
    etcdGuarded: info.isGuarded ? 1 : 0,
    etcdWatchdog: info.hasWatchdog ? 1 : 0,
  };
}
