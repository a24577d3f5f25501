/**
 * The operations of messages.ts by calls of the gateway. Each may be done twice, or long after its call: a member that was stopped does it
 * when it goes on. So
 *
 * - an acquire's value is unlike any other, and shows whether an attempt before was successful;
 * - a release compares the revision at which the lock was granted: a later lock on the same key has another one;
 * - a key on the host's own lease that stands in the way of its acquire is left of an attempt that nobody waits for: the daemon asks for
 *   no lock that it holds. It is removed first.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { EtcdError, type Gateway, type Json, KEEP_ALIVE } from './gateway.ts';
import { endOfPrefix, exclusiveKey, existenceKey, lockKey, sharedKey, sharedPrefix } from './keys.ts';
import { type Args, type Entry, Failure, type MemberState, type OperationName, type Result } from './messages.ts';

/** So often a transaction is tried whose comparison fails, though nothing is in its way any more. */
const ATTEMPTS = 20;
/** Keys of a resource that are read: one a host that shares it. */
const MAX_KEYS = 64;

/** Bytes of a list, and of an entry beside key and value. */
const MAX_LIST = 64 * 1024;
const ENTRY_SIZE = 150;
const TIME_TO_LIVE = '/v3/lease/timetolive';

/** How long members are asked which cluster they are of, in milliseconds, and for each second of the lease. */
const STRANGERS_MS = 1000;
const STRANGERS_SHARE = 100;

type Compare = Json;

const encode = (bytes: ByteString): string => Buffer.from(bytes, 'latin1').toString('base64');
const decode = (text: unknown): ByteString =>
  typeof text === 'string' ? Buffer.from(text, 'base64').toString('latin1') : '';
/** The gateway leaves zeros out. */
const digits = (value: unknown): string => (typeof value === 'string' ? value : '0');
const list = (value: unknown): readonly Json[] => (Array.isArray(value) ? (value as Json[]) : []);

/** No key of the range exists. */
function isFree(from: ByteString, end?: ByteString): Compare {
  const range = end === undefined ? {} : { range_end: encode(end) };
  return { target: 'CREATE', result: 'EQUAL', create_revision: '0', key: encode(from), ...range };
}

/** All of the range exist, and there is one at least. */
function exists(from: ByteString, end?: ByteString): Compare {
  const range = end === undefined ? {} : { range_end: encode(end) };
  return { target: 'CREATE', result: 'GREATER', create_revision: '0', key: encode(from), ...range };
}

function isCreatedAt(key: ByteString, revision: string): Compare {
  return { target: 'CREATE', result: 'EQUAL', create_revision: revision, key: encode(key) };
}

function isChangedAt(key: ByteString, revision: string): Compare {
  return { target: 'MOD', result: 'EQUAL', mod_revision: revision, key: encode(key) };
}

function put(key: ByteString, value: ByteString, lease = '0'): Json {
  return { request_put: { key: encode(key), value: encode(value), lease } };
}

function remove(key: ByteString): Json {
  return { request_delete_range: { key: encode(key) } };
}

function readRange(from: ByteString, end: ByteString, limit = MAX_KEYS): Json {
  return { request_range: { key: encode(from), range_end: encode(end), limit: String(limit) } };
}

function entryOf({ key, value, lease, create_revision: created, mod_revision: modified }: Json): Entry {
  return {
    key: decode(key),
    value: decode(value),
    lease: digits(lease),
    created: digits(created),
    modified: digits(modified),
  };
}

interface Outcome {
  readonly succeeded: boolean;
  readonly revision: string;
  /** Of the ranges among the operations that were done. */
  readonly entries: readonly Entry[];
}

export class Etcd {
  private readonly gateway: Gateway;
  /** How often {@link forget} was called. */
  private forgotten = 0;

  constructor(gateway: Gateway) {
    this.gateway = gateway;
  }

  /** @throws EtcdError */
  async run<N extends OperationName>(name: N, args: Args<N>, limit: number): Promise<Result<N>> {
    const until = performance.now() + limit;
    const { forgotten } = this;
    const left = (): number => (this.forgotten === forgotten ? until - performance.now() : 0);
    const operation = this[name] as (args: Args<N>, left: () => number) => Promise<Result<N>>;
    return operation.call(this, args, left);
  }

  /**
   * Ends the operations in progress with their present steps. Their caller has been replaced, and its successor asks for the same again: of two
   * acquires, the later one to reach etcd would take the other's lock for a stale one.
   */
  forget(): void {
    this.forgotten++;
  }

  private async transact(
    compare: readonly Compare[],
    success: readonly Json[],
    failure: readonly Json[],
    left: () => number,
  ): Promise<Outcome> {
    const answer = await this.gateway.call('/v3/kv/txn', { compare, success, failure }, left());
    const header = answer.header as Json | undefined;
    const entries = list(answer.responses).flatMap(({ response_range: range }) =>
      list((range as Json | undefined)?.kvs).map(entryOf),
    );
    return { succeeded: answer.succeeded === true, revision: digits(header?.revision), entries };
  }

  async grant({ seconds }: Args<'grant'>, left: () => number): Promise<Result<'grant'>> {
    this.gateway.forgetCluster();
    const { ID, TTL } = await this.gateway.call('/v3/lease/grant', { TTL: String(seconds) }, left());
    // Of two clusters another host might use the other one. Members that do not answer soon are not waited for: the lease has begun.
    const strangers = await this.gateway.findStrangers(Math.min(seconds * STRANGERS_SHARE, STRANGERS_MS, left()));
    if (strangers.length > 0) {
      await this.revoke({ lease: digits(ID) }, left);
      throw new EtcdError(
        Failure.REFUSED,
        `etcd_endpoints names members of different clusters, which would grant one lock twice: ${strangers.join(', ')}`,
      );
    }
    return { lease: digits(ID), seconds: Number(digits(TTL)), cluster: this.gateway.clusterId };
  }

  async keepAlive({ lease, cluster }: Args<'keepAlive'>, left: () => number): Promise<Result<'keepAlive'>> {
    this.gateway.useCluster(cluster);
    const { TTL } = await this.gateway.call(KEEP_ALIVE, { ID: lease }, left());
    return { seconds: Number(digits(TTL)) };
  }

  /**
   * The leader answers a keepalive by what it knows itself, and one that was just elected may not have come to the lease yet. A read is
   * answered when all has been done that was agreed on before; a write is done where the lease is known, or refused by all members alike.
   */
  async confirm(args: Args<'confirm'>, left: () => number): Promise<Result<'confirm'>> {
    const { lease, cluster, key, value } = args;
    this.gateway.useCluster(cluster);
    const { entries } = await this.list({ from: key, end: `${key}\0`, limit: 1 }, left);
    if (entries[0]?.lease === lease) return { exists: true };
    try {
      await this.put({ key, value, lease }, left);
      return { exists: true };
    } catch (error) {
      if (error instanceof EtcdError && error.failure === Failure.NO_LEASE) return { exists: false };
      throw error;
    }
  }

  async revoke({ lease }: Args<'revoke'>, left: () => number): Promise<Result<'revoke'>> {
    try {
      await this.gateway.call('/v3/lease/revoke', { ID: lease }, left());
    } catch (error) {
      if (!(error instanceof EtcdError) || error.failure !== Failure.NO_LEASE) throw error;
    }
    return null;
  }

  async put({ key, value, lease }: Args<'put'>, left: () => number): Promise<Result<'put'>> {
    await this.gateway.call('/v3/kv/put', { key: encode(key), value: encode(value), lease }, left());
    return null;
  }

  async acquire(args: Args<'acquire'>, left: () => number): Promise<Result<'acquire'>> {
    const { resource, shared, creates, value, lease } = args;
    const own = lockKey(resource, shared, lease);
    const [first, end] = [`${resource}//`, endOfPrefix(`${resource}//`)];
    const shares = sharedPrefix(resource);
    const free = [isFree(exclusiveKey(resource)), shared ? isFree(own) : isFree(shares, endOfPrefix(shares))];
    let existing = creates ? [] : [exists(existenceKey(resource))];
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const {
        succeeded,
        revision,
        entries: found,
      } = await this.transact(
        [...free, ...existing],
        [put(own, value, lease)],
        // The own one as well, should very many hosts share the resource.
        [readRange(first, end), readRange(own, `${own}\0`, 1)],
        left,
      );
      if (succeeded) return { kind: 'granted', revision };
      const entries = [...new Map(found.map((entry) => [entry.key, entry])).values()];
      const done = entries.find((entry) => entry.key === own && entry.value === value && entry.lease === lease);
      if (done !== undefined) return { kind: 'granted', revision: done.created };
      const locks = entries.filter(({ key }) => key === exclusiveKey(resource) || key.startsWith(shares));
      const stale = locks.filter((entry) => entry.lease === lease);
      const others = locks.filter((entry) => entry.lease !== lease);
      const rivals = shared ? others.filter(({ key }) => key === exclusiveKey(resource)) : others;
      if (rivals.length > 0) return { kind: 'busy', holders: rivals };
      for (const { key, modified } of stale) await this.remove({ key, modified }, left);
      if (stale.length > 0 || creates) continue;
      if (entries.length === 0) return { kind: 'missing' };
      // One that another host shares exists, even if it was made by AUTOCREATE.
      const isMade = entries.some(({ key }) => key === existenceKey(resource));
      existing = isMade ? [exists(existenceKey(resource))] : [exists(shares, endOfPrefix(shares))];
    }
    throw new EtcdError(Failure.REFUSED, `the keys of ${resource} change all the time`);
  }

  async release(args: Args<'release'>, left: () => number): Promise<Result<'release'>> {
    const { resource, shared, lease, revision, unlinks } = args;
    const own = lockKey(resource, shared, lease);
    const isOwn = isCreatedAt(own, revision);
    const existence = remove(existenceKey(resource));
    if (!shared || !unlinks) {
      await this.transact([isOwn], [remove(own), ...(unlinks ? [existence] : [])], [], left);
      return null;
    }
    const shares = sharedPrefix(resource);
    const isLast = [isFree(shares, own), isFree(`${sharedKey(resource, lease)}\0`, endOfPrefix(shares))];
    const { succeeded } = await this.transact([isOwn, ...isLast], [remove(own), existence], [], left);
    if (!succeeded) await this.transact([isOwn], [remove(own)], [], left);
    return null;
  }

  async replace({ key, created, value, lease }: Args<'replace'>, left: () => number): Promise<Result<'replace'>> {
    await this.transact([isCreatedAt(key, created)], [put(key, value, lease)], [], left);
    return null;
  }

  async create({ resource }: Args<'create'>, left: () => number): Promise<Result<'create'>> {
    const key = existenceKey(resource);
    await this.transact([isFree(key)], [put(key, '')], [], left);
    return null;
  }

  async delete({ resource }: Args<'delete'>, left: () => number): Promise<Result<'delete'>> {
    const shares = sharedPrefix(resource);
    const free = [isFree(exclusiveKey(resource)), isFree(shares, endOfPrefix(shares))];
    const { succeeded } = await this.transact(free, [remove(existenceKey(resource))], [], left);
    return { isBusy: !succeeded };
  }

  async list({ from, end, limit }: Args<'list'>, left: () => number): Promise<Result<'list'>> {
    const range = { key: encode(from), range_end: encode(end), limit: String(limit) };
    const { kvs, more } = await this.gateway.call('/v3/kv/range', range, left());
    const entries: Entry[] = [];
    let bytes = 0;
    for (const entry of list(kvs).map(entryOf)) {
      bytes += 2 * (entry.key.length + entry.value.length) + ENTRY_SIZE;
      if (entries.length > 0 && bytes > MAX_LIST) return { entries, more: true };
      entries.push(entry);
    }
    return { entries, more: more === true };
  }

  async hosts(range: Args<'hosts'>, left: () => number): Promise<Result<'hosts'>> {
    const { entries, more } = await this.list(range, left);
    const leases = entries.map(async ({ lease }) => this.gateway.call(TIME_TO_LIVE, { ID: lease }, left()));
    const answers = await Promise.all(leases);
    return {
      hosts: entries.map(({ key, value }, index) => ({ key, value, left: Number(digits(answers[index]?.TTL)) })),
      more,
    };
  }

  async describe({ lease, after }: Args<'describe'>, left: () => number): Promise<Result<'describe'>> {
    const { TTL, keys } = await this.gateway.call(TIME_TO_LIVE, { ID: lease, keys: true }, left());
    const rest = (Array.isArray(keys) ? keys.map(decode) : []).filter((key) => key > after).sort();
    let bytes = 0;
    const count = rest.findIndex((key) => (bytes += Buffer.byteLength(JSON.stringify(key)) + 1) > MAX_LIST);
    const more = count > 0;
    return { seconds: Number(digits(TTL)), keys: more ? rest.slice(0, count) : rest, more };
  }

  async remove({ key, modified }: Args<'remove'>, left: () => number): Promise<Result<'remove'>> {
    await this.transact([isChangedAt(key, modified)], [remove(key)], [], left);
    return null;
  }

  async members(_: Args<'members'>, left: () => number): Promise<Result<'members'>> {
    const found = await this.gateway.callEach('/v3/maintenance/status', {}, left());
    return {
      members: found.map(({ endpoint, answer }): MemberState => {
        if (typeof answer === 'string') return { endpoint, failure: answer };
        const member = (answer.header as Json | undefined)?.member_id;
        return {
          endpoint,
          version: typeof answer.version === 'string' ? answer.version : '',
          isLeader: answer.leader === member,
          size: Number(digits(answer.dbSize)),
          errors: Array.isArray(answer.errors) ? answer.errors.map(String) : [],
        };
      }),
    };
  }
}
