/** Asks the daemon on behalf of the commands: connects on demand, collects paged lists, and explains failures. */
import { ErrorCode } from '../../../xdr/error.ts';
import type { ByteString } from '../../../xdr/codec.ts';
import {
  type ClientInfo,
  type EtcdHost,
  type EtcdInfo,
  type EtcdLock,
  HolderKind,
  inquireProgram,
  type LockFilter,
  type LockInfo,
  LocksFlag,
  type LockState,
  LockStatesFlag,
  type LockspaceInfo,
  type OwnerState,
  PAGE_MAX,
  type RefusalInfo,
  type RefusalNotes,
  ReleaseDeadFlag,
  type StatusInfo,
  type StorageInfo,
  SubscribeFlag,
} from '../../../xdr/programs/inquire.ts';
import type { Client } from '../../client/client.ts';
import { CallTimeout, ConnectionLost, RemoteFailure } from '../../client/errors.ts';
import { CommandError, Exit } from './exit.ts';
import { Looker } from './kernel/looker.ts';
import { printable } from '../../log/printable.ts';
import type { NotedRefusal } from './output.ts';
import type { Target } from './target.ts';

/** Matches every lock. */
const EVERY_LOCK: LockFilter = {
  lockspace: null,
  resource: null,
  path: null,
  pid: null,
  uuid: null,
  owner: null,
};

/** How long a daemon may take to answer, in milliseconds. */
const ANSWER_MS = 10_000;

/** The methods of a connection that are needed here. */
export type Caller = Pick<Client, 'call' | 'close' | 'isOpen'>;

/** @throws ConnectionLost */
type Connect<C> = (socket: string, timeout: number) => Promise<C>;

/** Connects through Node.js's own sockets, which commands with events or overlapping calls need. */
export const connectClient: Connect<Client> = async (socket, timeout) => {
  const { Client } = await import('../../client/client.ts');
  return Client.connect(socket, { timeout });
};

export class InquireClient<C extends Caller = Client> {
  readonly target: Target;
  private readonly connect: Connect<C>;
  private readonly connections = new Map<string, Promise<C>>();

  constructor(target: Target, connect: Connect<C>) {
    this.target = target;
    this.connect = connect;
  }

  /** The connection to the admin socket. @throws CommandError */
  async adminClient(): Promise<C> {
    return this.clientOf(this.target.adminSocket);
  }

  close(): void {
    for (const connection of this.connections.values()) {
      connection.then(
        (client) => client.close(),
        () => undefined,
      );
    }
    this.connections.clear();
  }

  /** Returns the connection to a socket. Connects at the first call, and again after the connection was lost. */
  private async clientOf(socket: string): Promise<C> {
    const present = this.connections.get(socket);
    const client = await present?.catch(() => undefined);
    if (client?.isOpen === true) return client;
    // During the await another call may have begun to connect.
    const current = this.connections.get(socket);
    if (current !== undefined && current !== present) return current;
    const fresh = this.connect(socket, ANSWER_MS).catch((error: unknown) => {
      throw explainConnect(error, socket, this.target.name);
    });
    this.connections.set(socket, fresh);
    return fresh;
  }

  /** Whether the daemon has the inquire program. @throws CommandError when it does not answer at all */
  async answersInquiries(): Promise<boolean> {
    try {
      await this.status();
      return true;
    } catch (error) {
      if (error instanceof CommandError && error.exit === Exit.UNSUPPORTED) return false;
      throw error;
    }
  }

  async status(): Promise<StatusInfo> {
    return this.ask(async (client) => client.call(inquireProgram, 'status', { flags: 0 }));
  }

  async counters(): Promise<Map<string, number>> {
    const { counters } = await this.ask(async (client) => client.call(inquireProgram, 'counters', { flags: 0 }));
    return new Map(counters.map(({ name, value }) => [name, value]));
  }

  /** Locks that match the filter, page by page. Requests a page before it yields the one before. */
  async *lockPages(filter: Partial<LockFilter> = {}, lookAtFiles = false): AsyncGenerator<LockInfo[]> {
    const flags = lookAtFiles ? LocksFlag.LOOK_AT_FILES : 0;
    const client = await this.adminClient();
    const looker = new Looker();
    const look = async (locks: LockInfo[]): Promise<LockInfo[]> => (lookAtFiles ? looker.lookAtLocks(locks) : locks);
    const ask = async (cursor: bigint): Promise<{ locks: LockInfo[]; next: bigint }> =>
      client.call(inquireProgram, 'locks', { filter: { ...EVERY_LOCK, ...filter }, cursor, limit: PAGE_MAX, flags });
    try {
      let page = await ask(0n);
      while (page.next !== 0n) {
        const following = ask(page.next);
        // It is awaited below. A rejection before that must not count as unhandled.
        following.catch(() => undefined);
        if (page.locks.length > 0) yield await look(page.locks);
        page = await following;
      }
      if (page.locks.length > 0) yield await look(page.locks);
    } catch (error) {
      throw await this.explain(error);
    }
  }

  /** All locks that match the filter. A lock whose holds came in several pages is one entry. */
  async locks(filter: Partial<LockFilter> = {}, lookAtFiles = false): Promise<LockInfo[]> {
    const found: LockInfo[] = [];
    for await (const page of this.lockPages(filter, lookAtFiles)) {
      for (const lock of page) {
        const last = found.at(-1);
        if (lock.firstHold > 0 && last !== undefined) last.holds.push(...lock.holds);
        else found.push(lock);
      }
    }
    return found;
  }

  async lockspaces(): Promise<LockspaceInfo[]> {
    return this.list(async (client, page) => {
      const { lockspaces: entries, next } = await client.call(inquireProgram, 'lockspaces', page);
      return { entries, next };
    });
  }

  async clients(): Promise<ClientInfo[]> {
    return this.list(async (client, page) => {
      const { clients: entries, next } = await client.call(inquireProgram, 'clients', page);
      return { entries, next };
    });
  }

  /** The owners of all locks, or with one pid. Null from a release of the daemon that does not report them. */
  async owners(pid: number | null = null): Promise<OwnerState[] | null> {
    try {
      return await this.list(async (client, page) => {
        const { owners: entries, next } = await client.call(inquireProgram, 'owners', { ...page, pid });
        return { entries, next };
      });
    } catch (error) {
      if (isUnknown(error)) return null;
      throw error;
    }
  }

  /** Storage that helper processes call. None of a release of the daemon that has no helpers. */
  async storages(): Promise<StorageInfo[]> {
    try {
      return (await this.ask(async (client) => client.call(inquireProgram, 'storages', { flags: 0 }))).storages;
    } catch (error) {
      if (isUnknown(error)) return [];
      throw error;
    }
  }

  /**
   * Whether the locks on storage that hosts may share are still held. None from a release of the daemon that does not confirm them.
   *
   * @param ask the daemon has the file servers asked first, for a moment
   */
  async lockStates(ask: boolean): Promise<LockState[]> {
    const flags = ask ? LockStatesFlag.ASK : 0;
    try {
      return await this.list(async (client, page) => {
        const { locks: entries, next } = await client.call(inquireProgram, 'lockStates', { ...page, flags });
        return { entries, next };
      });
    } catch (error) {
      if (isUnknown(error)) return [];
      throw error;
    }
  }

  /** This host's part of the locks in etcd; null where no lockspace is kept there, also of a release of the daemon that has none. */
  async etcd(): Promise<EtcdInfo | null> {
    try {
      return (await this.ask(async (client) => client.call(inquireProgram, 'etcd', { flags: 0 }))).etcd;
    } catch (error) {
      if (isUnknown(error)) return null;
      throw error;
    }
  }

  /** The locks of all hosts in etcd. @param path of the resource; null: all */
  async etcdLocks(path: ByteString | null = null): Promise<EtcdLock[]> {
    return this.ask(async (client) => {
      const found: EtcdLock[] = [];
      for (let after = ''; ;) {
        const { locks, next } = await client.call(inquireProgram, 'etcdLocks', { path, after, flags: 0 });
        found.push(...locks);
        if (next === '') return found;
        after = next;
      }
    });
  }

  async etcdHosts(): Promise<EtcdHost[]> {
    return this.ask(async (client) => {
      const found: EtcdHost[] = [];
      for (let after = ''; ;) {
        const { hosts, next } = await client.call(inquireProgram, 'etcdHosts', { after, flags: 0 });
        found.push(...hosts);
        if (next === '') return found;
        after = next;
      }
    });
  }

  async etcdRevoke(lease: string): Promise<void> {
    await this.ask(async (client) => client.call(inquireProgram, 'etcdRevoke', { lease, flags: 0 }));
  }

  /** The flags to subscribe with: a release of the daemon that does not report lost locks refuses theirs. */
  async subscribeFlags(): Promise<number> {
    return (await this.counters()).has('lostLocks') ? SubscribeFlag.LOCKS_LOST : 0;
  }

  /** Has the daemon release what dead owners with this pid hold, in all or on one resource. Returns the number of holds. */
  async releaseDead(pid: number, lock: Pick<LockInfo, 'lockspace' | 'name'> | null, isLocal: boolean): Promise<number> {
    const args = {
      pid,
      lockspace: lock?.lockspace ?? null,
      resource: lock?.name ?? null,
      flags: isLocal ? ReleaseDeadFlag.LOCAL : 0,
    };
    return (await this.ask(async (client) => client.call(inquireProgram, 'releaseDead', args))).released;
  }

  async refusals(): Promise<NotedRefusal[]> {
    const found: RefusalInfo[] = [];
    for (let from = 0; ;) {
      const at = from;
      const { refusals, more } = await this.ask(async (client) =>
        client.call(inquireProgram, 'refusals', { after: at, flags: 0 }),
      );
      found.push(...refusals);
      from = refusals.at(-1)?.sequence ?? from;
      if (!more) break;
    }
    return this.withNotes(found);
  }

  /** Adds what holders on other hosts had noted. Nothing from a release of the daemon that reads no notes. */
  async withNotes(refusals: readonly RefusalInfo[]): Promise<NotedRefusal[]> {
    const [first] = refusals.filter(({ holder }) => holder !== null && holder.kind !== HolderKind.OWNER);
    const known = new Map<number, RefusalNotes['notes']>();
    try {
      if (first !== undefined) {
        const args = { after: first.sequence - 1, flags: 0 };
        const { notes } = await this.ask(async (client) => client.call(inquireProgram, 'refusalNotes', args));
        for (const { sequence, notes: found } of notes) known.set(sequence, found);
      }
    } catch (error) {
      if (!isUnknown(error)) throw error;
    }
    return refusals.map((refusal) => ({ ...refusal, notes: known.get(refusal.sequence) ?? [] }));
  }

  private async list<T>(
    ask: (client: C, page: { cursor: bigint; limit: number; flags: number }) => Promise<{ entries: T[]; next: bigint }>,
  ): Promise<T[]> {
    return this.ask(async (client) => {
      const found: T[] = [];
      let cursor = 0n;
      do {
        const { entries, next } = await ask(client, { cursor, limit: PAGE_MAX, flags: 0 });
        found.push(...entries);
        cursor = next;
      } while (cursor !== 0n);
      return found;
    });
  }

  /** A CommandError that explains a failed call to the operator. */
  async explain(error: unknown): Promise<unknown> {
    const { name } = this.target;
    // Without connections, this process itself has closed them.
    if (!isClosed(error) || this.connections.size === 0) return explain(error, name);
    // A daemon closes the connections of other users, and all connections when it ends. A second connection shows which it is.
    try {
      const client = await this.adminClient();
      await client.call(inquireProgram, 'counters', { flags: 0 });
    } catch (again) {
      if (isClosed(again)) {
        return new CommandError(
          Exit.DENIED,
          `the daemon (${name}) closes every connection at once: it runs as another user.`,
        );
      }
      if (!(again instanceof RemoteFailure)) return explain(again, name);
    }
    return new CommandError(
      Exit.DOWN,
      `the daemon (${name}) closed the connection, and answers on a new one: it was restarted.`,
    );
  }

  /** Makes calls on the admin socket, or on another one. @throws CommandError */
  async ask<T>(call: (client: C) => Promise<T>, socket = this.target.adminSocket): Promise<T> {
    const client = await this.clientOf(socket);
    try {
      return await call(client);
    } catch (error) {
      throw await this.explain(error);
    }
  }
}

/** The daemon's release does not have that procedure. */
function isUnknown(error: unknown): boolean {
  return error instanceof CommandError && error.message.startsWith('unknown procedure');
}

/** Explains to the operator why the daemon cannot be reached. */
function explainConnect(error: unknown, socket: string, name: string): unknown {
  if (!(error instanceof ConnectionLost)) return explain(error, socket);
  switch (error.code) {
    case 'ENOENT':
      return new CommandError(
        Exit.DOWN,
        `virtlockd is not running: there is no socket ${socket}.\n${startHint(name)}, or name another daemon with --connect.`,
      );
    case 'ECONNREFUSED':
      return new CommandError(
        Exit.DOWN,
        `virtlockd is not running: no process listens at ${socket}, which an earlier daemon left behind.`,
      );
    case 'EACCES':
    case 'EPERM':
      return new CommandError(
        Exit.DENIED,
        `access to ${socket} is denied: only the user who runs the daemon may ask it (root for the system's daemon).`,
      );
    default:
      return new CommandError(Exit.DOWN, error.message);
  }
}

/** How a daemon of that name is started: see {@link Target}. */
function startHint(name: string): string {
  if (name === 'system') return 'Start it (systemctl start virtlockd.socket)';
  return name === 'session' ? "Start it (virtlockd --daemon; libvirtd's session starts it for a guest)" : 'Start it';
}

/** The codes of a connection that the daemon has closed. */
const CLOSED: ReadonlySet<string | undefined> = new Set([undefined, 'ECONNRESET', 'EPIPE']);

function isClosed(error: unknown): boolean {
  return error instanceof ConnectionLost && CLOSED.has(error.code);
}

function explain(error: unknown, name: string): unknown {
  if (error instanceof RemoteFailure) {
    if (error.code === ErrorCode.RPC && /^Cannot find program \d+ version \d+$/.test(error.message)) {
      return new CommandError(
        Exit.UNSUPPORTED,
        `the daemon (${name}) does not answer inquiries: it is libvirt's C virtlockd, which does not report its locks.\n'virt-lockctl swap --to node' replaces it live.`,
      );
    }
    return new CommandError(Exit.NO, printable(error.remote.message ?? error.message));
  }
  if (error instanceof ConnectionLost) return new CommandError(Exit.DOWN, error.message);
  if (error instanceof CallTimeout) {
    return new CommandError(Exit.DOWN, `the daemon (${name}) does not answer: ${error.message}`);
  }
  return error;
}

export function formatVersion(version: number): string {
  return [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000, version % 1000].join('.');
}
