/**
 * A small lock daemon that keeps its locks in etcd, written apart from the real one: by it the checker was tried before there was a real
 * one, and it judges whether a finding is the daemon's or the laboratory's. Its answers are of the simplest.
 *
 *   stand-in.ts {"socket": …, "endpoints": […], "leaseSeconds": N, "fault": …}
 *
 * Faults, on purpose: `no-fencing` kills nobody; `from-answer` counts the lease from the answer; `any-release` releases who ever holds.
 */
import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { Guard, startGuard } from '../../../src/etcd/guard.ts';
import { decode, encode, u32 } from '../../../src/lab/wire.ts';
import { posix } from '../../../src/posix/posix.ts';
import { Poller } from '../../../src/rpc/poller.ts';
import type { StandInSettings } from './stand-in-settings.ts';

const { socket, endpoints, leaseSeconds, fault } = JSON.parse(process.argv[2] ?? '') as StandInSettings;
const LEASE_MS = leaseSeconds * 1000;
const MARGIN_MS = LEASE_MS / 4;
const LIMIT_MS = 1500;
const BUSY = 84;
const FAILED = 38;
const SIGKILL = 9;

type Json = Readonly<Record<string, unknown>>;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function ask(path: string, body: Json, limit = LIMIT_MS): Promise<Json> {
  let last: unknown;
  const until = performance.now() + limit * endpoints.length;
  for (let turn = Math.floor(Math.random() * 3), tries = 0; tries < endpoints.length; turn++, tries++) {
    try {
      const answer = await fetch(`${endpoints[turn % endpoints.length] ?? ''}${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(limit),
      });
      const text = (await answer.json()) as Json;
      if (answer.ok && text.error === undefined) return text;
      last = new Error(JSON.stringify(text));
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) break;
  }
  throw last instanceof Error ? last : new Error(String(last));
}

interface Hold {
  readonly key: string;
  readonly revision: string;
  readonly lease: string;
}

interface Owner {
  readonly token: number;
  readonly pid: number;
  readonly pidfd: number;
  readonly holds: Map<string, Hold>;
  isGuarded: boolean;
}

const poller = new Poller();
const owners = new Set<Owner>();
let lease: { readonly id: string; sent: number } | null = null;
let nextToken = Math.floor(posix.boottime() * 1000);

const guard = new Guard(
  { fence: 'kill' },
  { poller, start: startGuard },
  {
    changed: () => undefined,
    closing: () => undefined,
    fired: () => undefined,
    cleared: () => undefined,
    fencing: () => undefined,
    died: () => undefined,
  },
);

const deadline = (): number => (lease?.sent ?? 0) + LEASE_MS - MARGIN_MS;
const hasLease = (): boolean => lease !== null && posix.boottime() < deadline();

function extend(id: string, sent: number): void {
  lease = { id, sent: fault === 'from-answer' ? posix.boottime() : sent };
  if (fault === 'no-fencing') guard.arm(posix.boottime() + 1e9, posix.boottime() + 1e9);
  else guard.arm(deadline(), lease.sent + LEASE_MS);
}

/** Keeps one lease alive, and replaces it once it is over and all that was on it is gone. */
async function keepLease(): Promise<void> {
  for (;;) {
    const sent = posix.boottime();
    try {
      if (lease === null) {
        const { ID } = await ask('/v3/lease/grant', { TTL: String(leaseSeconds) });
        extend(String(ID), sent);
      } else if (hasLease() || fault === 'no-fencing') {
        const { id } = lease;
        const limit = fault === 'from-answer' ? LEASE_MS : LIMIT_MS;
        const { result } = await ask('/v3/lease/keepalive', { ID: id }, limit);
        const isAlive = Number((result as Json | undefined)?.TTL ?? 0) > 0;
        if (!isAlive) lease = null;
        else if (fault === 'from-answer' || posix.boottime() < deadline() || fault === 'no-fencing') extend(id, sent);
      }
    } catch {
      // Again.
    }
    if (lease !== null && !hasLease() && fault !== 'no-fencing') await lapse();
    await pause(Math.min(LEASE_MS / 8, 500));
  }
}

async function lapse(): Promise<void> {
  const dying = [...owners].filter(({ holds }) => holds.size > 0);
  for (const { pidfd } of dying) posix.pidfdSignal(pidfd, SIGKILL);
  for (const owner of dying) while (owners.has(owner)) await pause(20);
  lease = null;
}

/** Keys that transactions ask for, and how many. */
const pending = new Map<string, number>();

/**
 * Deletes the keys on the lease that nobody here holds or asks for: a transaction without an answer may be carried out much later, by a
 * member that had been stopped.
 */
async function sweep(): Promise<void> {
  for (;;) {
    await pause(1000);
    const id = lease?.id;
    if (id === undefined) continue;
    try {
      const { keys } = await ask('/v3/lease/timetolive', { ID: id, keys: true });
      for (const key of (keys as string[] | undefined) ?? []) {
        const { kvs } = await ask('/v3/kv/range', { key });
        const [found] = (kvs as Json[] | undefined) ?? [];
        const name = Buffer.from(key, 'base64').toString();
        const isHeld = [...owners].some(({ holds }) => [...holds.values()].some((hold) => hold.key === name));
        if (found?.lease !== id || isHeld || pending.has(name) || releasing.has(name)) continue;
        const same = { target: 'CREATE', result: 'EQUAL', create_revision: found.create_revision, key };
        await ask('/v3/kv/txn', { compare: [same], success: [{ request_delete_range: { key } }] });
      }
    } catch {
      // Again.
    }
  }
}

const releasing = new Set<string>();

async function acquire(owner: Owner, name: string, shared: boolean): Promise<number> {
  const key = keyOf(owner, name, shared, lease?.id ?? '');
  pending.set(key, (pending.get(key) ?? 0) + 1);
  try {
    return await tryToAcquire(owner, name, shared);
  } finally {
    const left = (pending.get(key) ?? 1) - 1;
    if (left === 0) pending.delete(key);
    else pending.set(key, left);
  }
}

const keyOf = ({ token }: Owner, name: string, shared: boolean, id: string): string =>
  shared ? `/l/${name}/s/${id}-${token}` : `/l/${name}/x`;

async function tryToAcquire(owner: Owner, name: string, shared: boolean): Promise<number> {
  const deadlineIs = lease;
  if (deadlineIs === null || !(hasLease() || fault === 'no-fencing')) return FAILED;
  if (!owner.isGuarded) {
    const status = await new Promise<number>((resolve) => {
      guard.add(owner.token, owner.pidfd, resolve);
    });
    if (status !== 0) return FAILED;
    owner.isGuarded = true;
  }
  const { id } = deadlineIs;
  const shares = `/l/${name}/s/`;
  const key = keyOf(owner, name, shared, id);
  const none = (from: string, end?: string): Json => ({
    target: 'CREATE',
    result: 'EQUAL',
    create_revision: '0',
    key: base64(from),
    ...(end === undefined ? {} : { range_end: base64(end) }),
  });
  const value = `${id}-${owner.token}-${Math.random()}`;
  const read = { request_range: { key: base64(key) } };
  const transaction = {
    compare: [none(`/l/${name}/x`), ...(shared ? [] : [none(shares, `/l/${name}/s0`)])],
    success: [{ request_put: { key: base64(key), value: base64(value), lease: id } }],
    failure: [read],
  };
  for (;;) {
    try {
      const { succeeded, header, responses } = await ask('/v3/kv/txn', transaction);
      let revision: string | undefined;
      if (succeeded === true) revision = String((header as Json).revision);
      // It has been done, and the answer was lost.
      for (const { response_range: range } of (responses as Json[] | undefined) ?? [])
        for (const found of ((range as Json | undefined)?.kvs as Json[] | undefined) ?? [])
          if (found.value === base64(value)) revision = String(found.create_revision);
      if (revision === undefined) return BUSY;
      if (lease?.id !== id || !(hasLease() || fault === 'no-fencing')) return FAILED;
      owner.holds.set(name, { key, revision, lease: id });
      if (!owners.has(owner)) await release(owner, name);
      return 0;
    } catch {
      if (lease?.id !== id || !(hasLease() || fault === 'no-fencing')) return FAILED;
      await pause(100);
    }
  }
}

async function release(owner: Owner, name: string): Promise<number> {
  const hold = owner.holds.get(name);
  if (hold === undefined) return FAILED;
  const { key, revision } = hold;
  const mine = { target: 'CREATE', result: 'EQUAL', create_revision: revision, key: base64(key) };
  const transaction = {
    compare: fault === 'any-release' ? [] : [mine],
    success: [{ request_delete_range: { key: base64(key) } }],
  };
  releasing.add(key);
  for (;;) {
    try {
      await ask('/v3/kv/txn', transaction);
      break;
    } catch {
      await pause(200);
    }
  }
  releasing.delete(key);
  owner.holds.delete(name);
  return 0;
}

/** The owner's process is gone. */
async function forget(owner: Owner): Promise<void> {
  owners.delete(owner);
  guard.remove(owner.token);
  posix.close(owner.pidfd);
  for (const name of [...owner.holds.keys()]) await release(owner, name);
}

function register(payload: Buffer): Owner | null {
  const length = payload.readUInt32BE(16);
  const pid = payload.readUInt32BE(20 + Math.ceil(length / 4) * 4 + 4);
  const pidfd = posix.pidfdOpen(pid);
  if (pidfd < 0) return null;
  const owner: Owner = { token: nextToken++, pid, pidfd, holds: new Map(), isGuarded: false };
  owners.add(owner);
  poller.watch(pidfd, () => void forget(owner));
  return owner;
}

function textsOf(payload: Buffer): { readonly name: string; readonly flags: number } {
  const first = payload.readUInt32BE(0);
  const at = 4 + Math.ceil(first / 4) * 4;
  const length = payload.readUInt32BE(at);
  const name = payload.toString('latin1', at + 4, at + 4 + length);
  return { name, flags: payload.readUInt32BE(at + 4 + Math.ceil(length / 4) * 4) };
}

async function serve(connection: Socket): Promise<void> {
  let owner: Owner | null = null;
  let input = Buffer.alloc(0);
  const answer = (serial: number, procedure: number, code: number): void => {
    const payload = code === 0 ? Buffer.alloc(0) : u32(code);
    connection.write(encode({ procedure, type: 1, serial, status: code === 0 ? 0 : 1, payload }));
  };
  try {
    for await (const part of connection) {
      input = Buffer.concat([input, part as Buffer]);
      while (input.length >= 4 && input.length >= input.readUInt32BE(0)) {
        const size = input.readUInt32BE(0);
        const { procedure, serial, payload } = decode(input.subarray(4, size));
        input = input.subarray(size);
        if (procedure === 1) owner = register(payload);
        const isOfResource = procedure === 6 || procedure === 7;
        const { name, flags } = isOfResource ? textsOf(payload) : { name: '', flags: 0 };
        let code = 0;
        if (owner === null) code = FAILED;
        else if (procedure === 6) code = await acquire(owner, name, (flags & 1) !== 0);
        else if (procedure === 7) code = await release(owner, name);
        answer(serial, procedure, code);
      }
    }
  } catch {
    // The connection is broken.
  }
  // As the real one: whoever loses its connection is ended.
  if (owner !== null && owners.has(owner) && owner.holds.size > 0) posix.pidfdSignal(owner.pidfd, SIGKILL);
}

rmSync(socket, { force: true });
createServer((connection) => {
  connection.on('error', () => undefined);
  void serve(connection);
}).listen(socket);
void sweep();
await keepLease();
