/**
 * Locks in etcd: what lockspaces.ts asks for those below the configured directories. A lock is a key on the host's lease (keys.ts). Whoever
 * holds one is in the guard before, with a pidfd: at the lease's end it is killed, by this process or by the guard.
 *
 * When the lease has ended, nothing is granted until all owners that held something on it are gone. Then the rest of the lease is revoked
 * and the host gets another one. No answer of etcd and no lack of one frees a lock or ends an owner before: the lease's time does.
 */
import { constants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import type { HolderNote } from '../../xdr/programs/inquire.ts';
import { RpcError } from '../libvirt/errors.ts';
import { logger } from '../log/log.ts';
import type { EngineFailure, LockEngine, ResourceName } from '../lockspace/engine.ts';
import { type EngineLock, HeldFile, joinPath } from '../lockspace/files.ts';
import type { LookElsewhere } from '../lockspace/holder-notes.ts';
import type { Lockspaces, Resource } from '../lockspace/lockspaces.ts';
import type { LockMode } from '../lockspace/mode.ts';
import { countOwners, type Hold, nameOwners } from '../lockspace/owner.ts';
import { Release } from '../lockspace/release.ts';
import { strerror } from '../posix/posix.ts';
import { Waiting } from '../rpc/waiting.ts';
import type { Asker } from '../storage/asker.ts';
import { thisHost } from '../storage/holder-note.ts';
import type { EtcdRequests, Reply } from './client.ts';
import { type GuardedOwner, GuardedOwners, notGuarded, type OwnerGuard, type ProcessHost } from './guarded-owners.ts';
import { hostKey, leaseName, lockKey, partsOfKey, resourceKey } from './keys.ts';
import { boundOf, Lease, type LeaseClock } from './lease.ts';
import { type Acquired, type EtcdAnswer, LockRequest, type LockWish, type RequestHost } from './lock-request.ts';
import { type Args, type Entry, Failure, type OperationName } from './messages.ts';
import { type EtcdSettings, isBelow } from './settings.ts';
import type { LeaseState } from './state.ts';
import { noteIn, valueOf } from './values.ts';

const log = logger('locking.etcd');
const { EAGAIN, EISDIR, ENAMETOOLONG, ENOENT, EIO, ESRCH, ETIMEDOUT } = constants.errno;

const PATH_MAX = 4096;
const NAME_MAX = 255;
/** Until a release is tried again that etcd has not answered, or refused. */
const AGAIN_MS = 500;
const REFUSED_AGAIN_MS = 5000;
/** The most that a question of an operator may take, in milliseconds. */
const OPERATOR_MS = 5000;
/** Between two comparisons of the keys on the lease with the tables. */
const AUDIT_MS = 10_000;

/** A lock that is a key in etcd. */
export class EtcdFile extends HeldFile {
  private readonly owner: LockEngine;
  /** Without its ending: see keys.ts. */
  readonly resource: ByteString;
  /** At which the key was made: a fencing token. */
  readonly revision: string;
  readonly lease: string;
  /** When its key was found to be gone, and when it was last there, in milliseconds since 1970; 0: never. */
  missed = 0;
  confirmed = 0;

  constructor(owner: LockEngine, shared: boolean, { key, revision, lease }: EngineLock) {
    super(-1, 0, 0, shared, 0, 'ofd');
    this.owner = owner;
    this.resource = key;
    this.revision = revision;
    this.lease = lease;
  }

  override get engine(): LockEngine {
    return this.owner;
  }

  override get engineState(): EngineLock {
    return { key: this.resource, revision: this.revision, lease: this.lease };
  }
}

export interface EngineHost extends ProcessHost {
  readonly lockspaces: Lockspaces;
  readonly clock: LeaseClock;
  /** Sends SIGKILL to the processes of the owners of these holds at once, and releases all that they hold when they are gone. */
  killOwners(holds: readonly Hold[]): void;
  /** A part of the state has changed. */
  changed(): void;
}

/** Answers of calls without a result of their own. */
type Done = { readonly kind: 'done'; readonly status: number } | Extract<EtcdAnswer, { kind: 'failed' }>;

export class EtcdEngine implements LockEngine {
  readonly settings: EtcdSettings;
  readonly lease: Lease;
  private readonly client: EtcdRequests;
  private readonly host: EngineHost;
  private readonly owners: GuardedOwners;
  private readonly requestHost: RequestHost;
  private readonly bound: number;
  /** By {@link EtcdFile.resource}. */
  private readonly files = new Map<ByteString, EtcdFile>();
  private readonly releasing = new Set<Resource>();
  /** Those of them that are sent once the daemon has taken over. */
  private readonly expected = new Set<Resource>();
  /**
   * Locks that calls ask for, by resource, with those that are to ask next. One at a time, also when nobody waits for it any more or it is by
   * another name: of two, the later one to reach etcd would take the other's lock for a stale one, and remove it.
   */
  private readonly asking = new Map<ByteString, (() => void)[]>();
  private readonly leaseWaiters = new Set<() => void>();
  private readonly changes = new Set<Resource>();
  private isChangeDue = false;
  /** Keys on the lease that were nobody's at the last audit. */
  private strays = new Set<ByteString>();
  private hasStarted = false;
  private hasEnded = false;
  /** Owners that were killed because a lease ended, in this program's time. */
  killed = 0;
  /** What the daemon did when the last lease ended, for status. */
  private lastLapse = '';
  private nextNonce = Math.floor(Date.now());

  constructor(settings: EtcdSettings, client: EtcdRequests, host: EngineHost) {
    this.settings = settings;
    this.client = client;
    this.host = host;
    this.bound = boundOf(settings.leaseSeconds);
    this.owners = new GuardedOwners({
      ...host,
      holdsAny: (pid) => this.holdsAny(pid),
      refused: (pid, status) => {
        this.guardAgain(pid, status);
      },
    });
    this.requestHost = {
      ...host,
      bound: this.bound,
      owners: this.owners,
      leaseId: () => this.leaseId,
      lackOfLease: () => this.lackOfLease,
      whenLeased: (limit, done) => {
        this.whenLeased(limit, done);
      },
      askEtcd: (wish, lease, limit, done) => {
        this.askEtcd(wish, lease, limit, done);
      },
      discard: (lock, mode) => {
        this.discard(lock, mode);
      },
      ended: (resource, owner) => {
        this.requestEnded(resource, owner);
      },
    };
    this.lease = new Lease(settings.leaseSeconds, client, host.clock, {
      announcement: (id) => this.announcement(id),
      extended: (isNew) => {
        this.onExtended(isNew);
      },
      ended: (reason) => {
        this.onEnded(reason);
      },
    });
  }

  // ---- life

  /** Goes on with the lease of the previous program or process. */
  restore(state: LeaseState): void {
    this.lease.restore(state);
  }

  /** Adopts a lock of a state document. */
  adopt(lock: EngineLock, shared: boolean): EtcdFile {
    const known = this.files.get(lock.key);
    if (known !== undefined) {
      known.references++;
      return known;
    }
    const file = new EtcdFile(this, shared, lock);
    this.files.set(lock.key, file);
    return file;
  }

  /** All locks are adopted. */
  start(guard: OwnerGuard): void {
    const { state } = this.lease;
    this.owners.start(guard);
    this.hasStarted = true;
    if (state !== undefined && state.isOver !== true) this.owners.arm(this.lease.killAt, this.lease.endsAt);
    this.guardHolders();
    this.owners.keepOnlyThese();
    for (const resource of [...this.expected]) this.send(resource);
    if (state?.isOver === true) this.onEnded('it had ended before this program began');
    this.lease.start();
    for (const go of [...this.leaseWaiters]) if (this.isReady) go();
    this.auditLater();
  }

  /** Every owner with a lock, after a restart or a death. */
  private guardHolders(): void {
    for (const resource of this.heldResources()) {
      for (const hold of resource.holds) {
        const { owner, end } = hold;
        if (end !== undefined) continue;
        if (this.owners.take(hold) === null)
          log.error(`Owner ${owner.pid} (${owner.name}) cannot be told by now, and could not be ended with the lease`);
      }
    }
  }

  private *heldResources(): Generator<Resource> {
    for (const resource of this.host.lockspaces.resources()) if (resource.file.engine === this) yield resource;
  }

  /** The number of resources that are held in etcd. */
  get count(): number {
    return this.files.size;
  }

  /** For a message: resources and their owners. */
  describeLocks(most: number): string {
    const texts: string[] = [];
    let more = 0;
    for (const { name, holds } of this.heldResources()) {
      if (texts.length < most) texts.push(`'${name}' of ${nameOwners(holds)}`);
      else more++;
    }
    return `${texts.join(', ')}${more === 0 ? '' : ` and ${more} more`}`;
  }

  /** The daemon ends: its owners are gone. Gives the lease back. Resolves when that is done, or the time is over. */
  async end(milliseconds: number): Promise<void> {
    this.hasEnded = true;
    this.lease.stop();
    const { state } = this.lease;
    if (state === undefined) return;
    // An owner that could not be ended keeps its locks as long as the lease lasts.
    const held = [...this.heldResources()].filter(({ release }) => release === null);
    if (held.length > 0) {
      log.error(`The lease ${leaseName(state.id)} is left to its end, with ${held.length} locks`);
      return;
    }
    await new Promise<void>((resolve) => {
      this.client.request('revoke', { lease: state.id }, milliseconds, (reply) => {
        if (!reply.ok) log.warn(`The lease ${leaseName(state.id)} is left to its end: ${reply.text}`);
        resolve();
      });
    });
  }

  // ---- the lease

  private onExtended(isNew: boolean): void {
    this.owners.arm(this.lease.killAt, this.lease.endsAt);
    this.host.changed();
    if (!isNew) return;
    this.announce();
    for (const go of [...this.leaseWaiters]) if (this.isReady) go();
  }

  /** Tells the other hosts of this one. */
  private announce(): void {
    const { id } = this.lease;
    if (id === null) return;
    this.client.request('put', { ...this.announcement(id), lease: id }, this.bound, (reply) => {
      if (!reply.ok) log.warn(`Other hosts are not told of this one: ${reply.text}`);
    });
  }

  private announcement(id: string): { key: ByteString; value: ByteString } {
    const { host, hostUuid } = thisHost();
    const value = { host, hostUuid, pid: process.pid, seconds: this.settings.leaseSeconds, since: Date.now() };
    return { key: hostKey(this.settings.prefix, id), value: JSON.stringify(value) };
  }

  /** The guard has reached its deadline. */
  guardFired(count: number): void {
    log.error(`The guard has killed ${count} owners of locks in etcd, because the lease was not kept alive in time`);
    this.lease.end('the guard has reached its deadline');
  }

  private get holds(): Hold[] {
    return [...this.heldResources()].flatMap((resource) => resource.holds);
  }

  /** The number of owners whose processes would be killed at the lease's end. */
  get ownerCount(): number {
    return countOwners(this.holds);
  }

  private onEnded(reason: string): void {
    const { holds } = this;
    const owners = countOwners(holds);
    this.killed += owners;
    const what =
      owners === 0
        ? 'nobody held a lock on it'
        : `killing ${owners} owners of ${this.count} locks: ${this.describeLocks(20)}`;
    this.lastLapse = `the lease ended at ${new Date().toISOString()}: ${what}`;
    const name = leaseName(this.lease.state?.id ?? '0');
    if (owners === 0) log.warn(`The lease ${name} of this host has ended (${reason}): ${what}`);
    else log.error(`The lease ${name} of this host has ended (${reason}): ${what}`);
    this.host.changed();
    this.host.killOwners(holds);
    for (const resource of [...this.releasing]) this.finishSoon(resource);
    this.renewWhenClear();
  }

  /** Gets another lease once nobody is left that held something on the last one. */
  private renewWhenClear(): void {
    if (this.lease.state?.isOver !== true || this.files.size > 0 || this.hasEnded) return;
    log.warn('All owners of locks on the lease that has ended are gone: getting another lease');
    this.lease.renew();
    this.host.changed();
  }

  private get isReady(): boolean {
    return this.hasStarted && this.lease.isHeld;
  }

  /** The lease that locks are granted on; null: none are at present. */
  private get leaseId(): string | null {
    return this.isReady ? this.lease.id : null;
  }

  /** Calls back once there is a lease, or the time is over. */
  private whenLeased(limit: number, done: () => void): void {
    if (this.isReady) {
      done();
      return;
    }
    let isDone = false;
    const go = (): void => {
      if (isDone) return;
      isDone = true;
      this.leaseWaiters.delete(go);
      done();
    };
    this.leaseWaiters.add(go);
    this.host.clock.setTimeout(go, limit);
  }

  /** Why nothing is granted at present. */
  private get lackOfLease(): string {
    if (this.lease.state?.isOver === true)
      return `the lease of this host has ended, and its owners are not all gone: ${this.describeLocks(5)}`;
    const { lastFailure } = this.lease;
    return lastFailure === '' ? 'this host has no lease yet' : lastFailure;
  }

  // ---- calls

  keeps(directory: ByteString): boolean {
    return isBelow(directory, this.settings.lockspaces);
  }

  admit(hold: Hold): void {
    if (!this.isReady) {
      if (this.hasStarted) throw notGuarded(hold.owner, this.lackOfLease);
      throw new Waiting((done) => {
        this.whenLeased(this.bound, () => setImmediate(done));
        return () => undefined;
      });
    }
    this.owners.admit(hold, this.bound);
  }

  acquire(asker: Asker, { directory, name }: ResourceName, mode: LockMode, hold: Hold): HeldFile | EngineFailure {
    const path = joinPath(directory, name);
    const fault = faultOf(directory, name);
    if (fault !== 0) return { failure: { kind: 'open', errno: fault }, look: null };
    const resource = resourceKey(this.settings.prefix, path);
    const known = this.files.get(resource);
    if (known !== undefined) {
      const isBusy = !known.shared || !mode.shared || known.release !== null;
      if (isBusy) return { failure: { kind: 'busy', pid: 0, file: known }, look: null };
      this.admit(hold);
      known.references++;
      return known;
    }
    const answer = asker.find<Acquired>(`acquire ${mode.flags} ${resource}`, (onFound) => {
      const request = new LockRequest(this.requestHost, { resource, mode, hold }, onFound);
      this.requestInTurn(resource, request);
      return () => {
        request.forget();
      };
    });
    switch (answer.kind) {
      case 'granted': {
        this.requestEnded(resource, answer.owner);
        if (this.lease.id !== answer.lock.lease) {
          this.discard(answer.lock, mode);
          throw cannotLock(path, this.lackOfLease, ETIMEDOUT);
        }
        const file = new EtcdFile(this, mode.shared, answer.lock);
        file.confirmed = Date.now();
        this.files.set(resource, file);
        return file;
      }
      case 'busy':
        return { failure: { kind: 'busy', pid: -1 }, look: lookAt(answer.holders) };
      case 'missing':
        return { failure: { kind: 'open', errno: ENOENT }, look: null };
      case 'known':
        // It is given back by now.
        throw new Waiting((done) => {
          setImmediate(done);
          return () => undefined;
        });
      case 'failed':
        throw cannotLock(path, answer.text, answer.errno);
    }
  }

  private requestInTurn(resource: ByteString, request: LockRequest): void {
    const next = this.asking.get(resource);
    if (next === undefined) {
      this.asking.set(resource, []);
      request.start();
      return;
    }
    next.push(() => {
      if (request.isForgotten || this.files.has(resource)) request.pass();
      else request.start();
    });
  }

  private askEtcd(
    { resource, mode, hold }: LockWish,
    lease: string,
    limit: number,
    done: (answer: EtcdAnswer) => void,
  ): void {
    const value = valueOf(mode, [hold], `${process.pid}.${this.nextNonce++}`);
    const args = { resource, shared: mode.shared, creates: mode.autocreate, value, lease };
    this.client.request('acquire', args, limit, (reply) => {
      if (!reply.ok) {
        if (reply.failure === Failure.NO_LEASE) this.lease.doubt(lease);
        done({ kind: 'failed', errno: errnoOf(reply), text: reply.text });
      } else if (reply.result.kind === 'granted') {
        done({ kind: 'granted', lock: { key: resource, revision: reply.result.revision, lease } });
      } else done(reply.result);
    });
  }

  private requestEnded(resource: ByteString, owner: GuardedOwner | null): void {
    if (owner !== null) owner.calls--;
    const next = this.asking.get(resource)?.shift();
    // Not before the present one holds it.
    if (next === undefined) this.asking.delete(resource);
    else setImmediate(next);
    this.owners.syncSoon();
  }

  /** Gives back a lock that nobody makes use of. If etcd does not answer, an audit does it later. */
  private discard({ key, revision, lease }: EngineLock, { shared, autocreate }: LockMode): void {
    const args = { resource: key, shared, lease, revision, unlinks: autocreate };
    this.client.request('release', args, this.bound, () => undefined);
  }

  create(asker: Asker, { directory, name }: ResourceName): number {
    const fault = faultOf(directory, name);
    if (fault !== 0) return -fault;
    const path = joinPath(directory, name);
    const resource = resourceKey(this.settings.prefix, path);
    const answer = asker.find<Done>(`create ${resource}`, (onFound) => {
      this.client.request('create', { resource }, this.bound, (reply) => {
        onFound(doneOf(reply, 0), () => undefined);
      });
      return () => undefined;
    });
    if (answer.kind === 'done') return answer.status;
    throw failure(ErrorDomain.NONE, `cannot create file '${path}'`, answer.text, answer.errno);
  }

  delete(asker: Asker, { directory, name }: ResourceName): number {
    const path = joinPath(directory, name);
    const fault = faultOf(directory, name);
    if (fault !== 0) return fault === ENOENT ? 0 : -fault;
    const resource = resourceKey(this.settings.prefix, path);
    if (this.files.has(resource)) return -EAGAIN;
    const answer = asker.find<Done>(`delete ${resource}`, (onFound) => {
      this.client.request('delete', { resource }, this.bound, (reply) => {
        onFound(doneOf(reply, reply.ok && reply.result.isBusy ? -EAGAIN : 0), () => undefined);
      });
      return () => undefined;
    });
    if (answer.kind === 'done') return answer.status;
    throw failure(ErrorDomain.LOCKSPACE, `Unable to delete lockspace resource ${path}`, answer.text, answer.errno);
  }

  // ---- releases

  release(resource: Resource, by: number): boolean {
    const { file } = resource;
    if (file.references > 1) return false;
    file.release = new Release(by);
    this.releasing.add(resource);
    this.send(resource);
    return true;
  }

  expect(resource: Resource): void {
    this.releasing.add(resource);
    this.expected.add(resource);
  }

  private send(resource: Resource): void {
    const { file, mode, path } = resource;
    this.expected.delete(resource);
    this.owners.syncSoon();
    if (!(file instanceof EtcdFile)) return;
    if (this.lease.id !== file.lease) {
      // It goes with its lease.
      const { state } = this.lease;
      if (state?.isOver === true || state?.id !== file.lease) this.finishSoon(resource);
      else this.again(resource, AGAIN_MS);
      return;
    }
    const { resource: key, revision, lease } = file;
    const args = { resource: key, shared: file.shared, lease, revision, unlinks: mode.autocreate };
    this.client.request('release', args, this.bound, (reply) => {
      if (!this.releasing.has(resource)) return;
      if (reply.ok) {
        this.finish(resource);
        return;
      }
      const { release } = file;
      if (release !== null) {
        release.failure = failure(
          ErrorDomain.LOCKSPACE,
          `Unable to release lock on '${path}', which goes on`,
          reply.text,
          errnoOf(reply),
        );
        release.wake();
      }
      this.again(resource, reply.failure === Failure.REFUSED ? REFUSED_AGAIN_MS : AGAIN_MS);
    });
  }

  private again(resource: Resource, milliseconds: number): void {
    this.host.clock.setTimeout(() => {
      if (this.releasing.has(resource) && !this.hasEnded) this.send(resource);
    }, milliseconds);
  }

  /** Never at once: the caller has not finished yet. */
  private finishSoon(resource: Resource): void {
    setImmediate(() => {
      this.finish(resource);
    });
  }

  private finish(resource: Resource): void {
    const { file } = resource;
    if (!this.releasing.delete(resource)) return;
    this.expected.delete(resource);
    file.references = 0;
    if (file instanceof EtcdFile && this.files.get(file.resource) === file) this.files.delete(file.resource);
    this.host.lockspaces.finishRelease(resource);
    this.owners.syncSoon();
    this.renewWhenClear();
  }

  /** Tells other hosts who shares a resource by now. */
  changed(resource: Resource): void {
    this.owners.syncSoon();
    if (!resource.mode.shared) return;
    this.changes.add(resource);
    if (this.isChangeDue) return;
    this.isChangeDue = true;
    setImmediate(() => {
      this.isChangeDue = false;
      const changed = [...this.changes];
      this.changes.clear();
      for (const one of changed) this.replaceNote(one);
    });
  }

  private replaceNote({ file, holds, mode, release }: Resource): void {
    // The first hold is in the value already.
    if (!(file instanceof EtcdFile) || release !== null || holds.length === 0 || file.lease !== this.lease.id) return;
    const { resource, revision, lease } = file;
    const key = lockKey(resource, true, lease);
    const value = valueOf(mode, holds, `${process.pid}.${this.nextNonce++}`);
    this.client.request('replace', { key, created: revision, value, lease }, this.bound, () => undefined);
  }

  // ---- owners

  /** No lock is granted to an owner until the next guard has it: nobody but the daemon would end it. */
  guardDied(): void {
    this.owners.guardDied();
  }

  /** A guard that has taken the place of another does not take an owner of locks. */
  private guardAgain(pid: number, status: number): void {
    if (status === -ESRCH || !this.lease.isHeld || !this.holdsAny(pid)) return;
    log.error(`Owner ${pid} of locks in etcd is not guarded: ${strerror(status)}. Trying again`);
    this.host.clock.setTimeout(() => {
      if (this.lease.isHeld && !this.hasEnded) this.guardHolders();
    }, REFUSED_AGAIN_MS);
  }

  private holdsAny(pid: number): boolean {
    for (const { file } of this.host.lockspaces.heldBy(pid)) if (file.engine === this) return true;
    return false;
  }

  // ---- audit

  private auditLater(): void {
    this.host.clock.setTimeout(() => {
      if (this.hasEnded) return;
      this.audit();
      this.auditLater();
    }, AUDIT_MS);
  }

  /** Removes keys on the lease that two audits have found, and nobody holds: of acquires that etcd had not answered. */
  private audit(): void {
    const lease = this.lease.id;
    if (lease === null) return;
    const found: ByteString[] = [];
    const next = (after: ByteString): void => {
      this.client.request('describe', { lease, after }, this.bound, (reply) => {
        if (!reply.ok || this.lease.id !== lease) return;
        found.push(...reply.result.keys);
        const last = found.at(-1);
        if (reply.result.more && last !== undefined) next(last);
        else this.compare(found, lease);
      });
    };
    next('');
  }

  /** @param keys all on the lease */
  private compare(keys: readonly ByteString[], lease: string): void {
    const strays = new Set<ByteString>();
    const held = new Set<ByteString>();
    for (const key of keys) {
      const parts = partsOfKey(this.settings.prefix, key);
      if (parts === null) continue;
      const resource = resourceKey(this.settings.prefix, parts.path);
      held.add(resource);
      if (!this.files.has(resource) && !this.asking.has(resource)) strays.add(key);
    }
    const doomed = [...strays].filter((key) => this.strays.has(key));
    this.strays = strays;
    for (const key of doomed) this.removeStray(key, lease);
    for (const [resource, file] of this.files) {
      if (file.lease !== lease || file.release !== null || file.missed > 0) continue;
      if (held.has(resource)) file.confirmed = Date.now();
      else this.checkMissing(file);
    }
  }

  private removeStray(key: ByteString, lease: string): void {
    const range = { from: key, end: `${key}\0`, limit: 1 };
    this.client.request('list', range, this.bound, (reply) => {
      const [entry] = reply.ok ? reply.result.entries : [];
      const parts = partsOfKey(this.settings.prefix, key);
      if (entry?.lease !== lease || parts === null) return;
      const resource = resourceKey(this.settings.prefix, parts.path);
      if (this.files.has(resource) || this.asking.has(resource)) return;
      log.info(`Removing ${key}, which is left of an acquire that etcd had not answered`);
      this.client.request('remove', { key, modified: entry.modified }, this.bound, () => undefined);
    });
  }

  /** A key that is not on the lease while the lock is held: asked for itself, since the list may be older than the lock. */
  private checkMissing(file: EtcdFile): void {
    const { resource, shared, lease, revision } = file;
    const key = lockKey(resource, shared, lease);
    this.client.request('list', { from: key, end: `${key}\0`, limit: 1 }, this.bound, (reply) => {
      if (!reply.ok || this.files.get(resource) !== file || file.release !== null) return;
      const [entry] = reply.result.entries;
      if (entry?.created === revision) return;
      file.missed = Date.now();
      log.error(
        `The key ${key} of a held lock is gone from etcd, though the lease of this host is there: an operator has removed it, or etcd was restored from a backup. Another host may get the lock`,
      );
    });
  }

  // ---- views

  /** Asks etcd for an operator. */
  request<N extends OperationName>(name: N, args: Args<N>, done: (reply: Reply<N>) => void): void {
    this.client.request(name, args, Math.min(this.bound, OPERATOR_MS), done);
  }

  /** The number of held locks whose keys are gone. */
  get missedCount(): number {
    let count = 0;
    for (const { missed } of this.files.values()) if (missed > 0) count++;
    return count;
  }

  /** Warnings for status. */
  get warnings(): string[] {
    const { lease } = this;
    const texts: string[] = [];
    if (lease.state?.isOver === true) texts.push(`the lease in etcd has ended: ${this.lackOfLease}`);
    else if (lease.lastFailure !== '') {
      const left = Math.max(lease.killAt - this.host.clock.now(), 0) / 1000;
      const what = this.count === 0 ? 'no lock is held there' : `${this.count} locks and their owners end with it`;
      texts.push(`${lease.lastFailure}; the lease ends here in ${left.toFixed(1)} s, and ${what}`);
    }
    if (this.hasStarted && !this.owners.isReady && this.count > 0)
      texts.push('the guard of locks in etcd is not ready: owners are ended by the daemon alone');
    if (this.lastLapse !== '') texts.push(this.lastLapse);
    for (const { resource, missed } of this.files.values())
      if (missed > 0) texts.push(`the key of ${resource} is gone from etcd: another host may have the lock`);
    return texts;
  }
}

function lookAt(holders: readonly Entry[]): LookElsewhere {
  return (done) => {
    const notes = holders.flatMap(({ value }): HolderNote[] => {
      const note = noteIn(value);
      return note === null ? [] : [note];
    });
    setImmediate(() => {
      done({ notes, isHere: false });
    });
  };
}

/** The errno of a path that no file in a lockspace could have; 0: it is good. */
function faultOf(directory: ByteString, name: ByteString): number {
  const path = joinPath(directory, name);
  if (path.length >= PATH_MAX) return ENAMETOOLONG;
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  const [last] = parts;
  if (last === undefined) return EISDIR;
  // There are no directories in a lockspace.
  if (parts.length > 1 || last === '..' || path.endsWith('/')) return ENOENT;
  return last.length > NAME_MAX ? ENAMETOOLONG : 0;
}

function doneOf<N extends 'create' | 'delete'>(reply: Reply<N>, status: number): Done {
  return reply.ok ? { kind: 'done', status } : { kind: 'failed', errno: errnoOf(reply), text: reply.text };
}

function errnoOf({ failure }: Extract<Reply<never>, { ok: false }>): number {
  return failure === Failure.REFUSED ? EIO : ETIMEDOUT;
}

/** Code 38, with the reason in place of the errno's text. */
function failure(domain: ErrorDomain, what: string, reason: string, errno: number): RpcError {
  return new RpcError(ErrorCode.SYSTEM_ERROR, domain, `${what}: ${reason}`, errno);
}

function cannotLock(path: ByteString, reason: string, errno: number): RpcError {
  return failure(ErrorDomain.LOCKSPACE, `Unable to acquire lock on '${path}'`, reason, errno);
}
