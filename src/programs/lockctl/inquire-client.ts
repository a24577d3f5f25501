/** The daemon as the commands see it: connected on demand, its lists unpaged, its failures in clear words. */
import { ErrorCode } from '../../../xdr/error.ts';
import {
  type ClientInfo,
  inquireProgram,
  type LockFilter,
  type LockInfo,
  LocksFlag,
  type LockspaceInfo,
  PAGE_MAX,
  type RefusalInfo,
  type StatusInfo,
} from '../../../xdr/programs/inquire.ts';
import type { Client } from '../../client/client.ts';
import { CallTimeout, ConnectionLost, RemoteFailure } from '../../client/errors.ts';
import { CommandError, Exit } from './exit.ts';
import { printable } from '../../log/printable.ts';
import type { Target } from './target.ts';

/** Fits every lock. */
export const EVERY_LOCK: LockFilter = {
  lockspace: null,
  resource: null,
  path: null,
  pid: null,
  uuid: null,
  owner: null,
};

/** How long a daemon may take to answer, in milliseconds. */
const ANSWER_MS = 10_000;

/** What the questions below need of a connection. */
export type Caller = Pick<Client, 'call' | 'close' | 'isOpen'>;

/** @throws ConnectionLost */
export type Connect<C> = (socket: string, timeout: number) => Promise<C>;

/** With Node.js's own sockets, for everything that events or many calls at a time are needed for. */
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

  /** The connection to the lock socket. @throws CommandError */
  async lockClient(): Promise<C> {
    return this.clientOf(this.target.socket);
  }

  close(): void {
    for (const connection of this.connections.values()) {
      connection.then(
        (client) => {
          client.close();
        },
        () => undefined,
      );
    }
    this.connections.clear();
  }

  /** One connection a socket, made when it is first needed and again when it was lost. */
  private async clientOf(socket: string): Promise<C> {
    const present = this.connections.get(socket);
    const client = await present?.catch(() => undefined);
    if (client?.isOpen === true) return client;
    // Somebody else may have begun another one meanwhile.
    const current = this.connections.get(socket);
    if (current !== undefined && current !== present) return current;
    const fresh = this.connect(socket, ANSWER_MS).catch((error: unknown) => {
      throw explainConnect(error, socket);
    });
    this.connections.set(socket, fresh);
    return fresh;
  }

  /** Whether it answers the inquire program. @throws CommandError when it does not answer at all */
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
    return this.inquire(async (client) => client.call(inquireProgram, 'status', { flags: 0 }));
  }

  async counters(): Promise<Map<string, number>> {
    const { counters } = await this.inquire(async (client) => client.call(inquireProgram, 'counters', { flags: 0 }));
    return new Map(counters.map(({ name, value }) => [name, value]));
  }

  /** Locks that fit the filter, page by page: the next page is asked for while the last one is looked at. */
  async *lockPages(filter: Partial<LockFilter> = {}, lookAtFiles = false): AsyncGenerator<LockInfo[]> {
    const flags = lookAtFiles ? LocksFlag.LOOK_AT_FILES : 0;
    const client = await this.adminClient();
    const ask = async (cursor: bigint): Promise<{ locks: LockInfo[]; next: bigint }> =>
      client.call(inquireProgram, 'locks', { filter: { ...EVERY_LOCK, ...filter }, cursor, limit: PAGE_MAX, flags });
    try {
      let page = await ask(0n);
      while (page.next !== 0n) {
        const following = ask(page.next);
        // Awaited below; until then a failure of it must not count as unhandled.
        following.catch(() => undefined);
        if (page.locks.length > 0) yield page.locks;
        page = await following;
      }
      if (page.locks.length > 0) yield page.locks;
    } catch (error) {
      throw await this.explain(error);
    }
  }

  /** All locks that fit the filter, those of many holds in one piece. */
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

  async refusals(after = 0): Promise<RefusalInfo[]> {
    const found: RefusalInfo[] = [];
    for (let from = after; ;) {
      const at = from;
      const { refusals, more } = await this.inquire(async (client) =>
        client.call(inquireProgram, 'refusals', { after: at, flags: 0 }),
      );
      found.push(...refusals);
      from = refusals.at(-1)?.sequence ?? from;
      if (!more) return found;
    }
  }

  private async list<T>(
    ask: (client: C, page: { cursor: bigint; limit: number; flags: number }) => Promise<{ entries: T[]; next: bigint }>,
  ): Promise<T[]> {
    return this.inquire(async (client) => {
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

  /** A failed call in words for the operator. */
  async explain(error: unknown): Promise<unknown> {
    const { name } = this.target;
    // Where nothing is connected any more, it was closed here.
    if (!isClosed(error) || this.connections.size === 0) return explain(error, name);
    // Daemons close connections of other users without a word, and everybody's when they end: another one tells which.
    try {
      const client = await this.adminClient();
      await client.call(inquireProgram, 'counters', { flags: 0 });
    } catch (again) {
      if (isClosed(again)) {
        return new CommandError(
          Exit.DENIED,
          `the daemon (${name}) closes every connection at once: it runs as another user than this one.`,
        );
      }
      if (!(again instanceof RemoteFailure)) return explain(again, name);
    }
    return new CommandError(
      Exit.DOWN,
      `the daemon (${name}) closed the connection, and now answers another one: it ended meanwhile.`,
    );
  }

  private async inquire<T>(ask: (client: C) => Promise<T>): Promise<T> {
    const client = await this.adminClient();
    try {
      return await ask(client);
    } catch (error) {
      throw await this.explain(error);
    }
  }
}

/** Why nobody can be reached, in words for the operator. */
function explainConnect(error: unknown, socket: string): unknown {
  if (!(error instanceof ConnectionLost)) return explain(error, socket);
  switch (error.code) {
    case 'ENOENT':
      return new CommandError(
        Exit.DOWN,
        `virtlockd is not running: there is no socket ${socket}.\nStart it (systemctl start virtlockd.socket), or name another daemon with --connect.`,
      );
    case 'ECONNREFUSED':
      return new CommandError(
        Exit.DOWN,
        `virtlockd is not running: nobody listens at ${socket}, which an earlier one left behind.`,
      );
    case 'EACCES':
    case 'EPERM':
      return new CommandError(
        Exit.DENIED,
        `access to ${socket} is denied: only the user who runs that daemon may ask it (for the system's: root).`,
      );
    default:
      return new CommandError(Exit.DOWN, error.message);
  }
}

/** How a connection looks that the other side has closed. */
const CLOSED: ReadonlySet<string | undefined> = new Set([undefined, 'ECONNRESET', 'EPIPE']);

function isClosed(error: unknown): boolean {
  return error instanceof ConnectionLost && CLOSED.has(error.code);
}

function explain(error: unknown, name: string): unknown {
  if (error instanceof RemoteFailure) {
    if (error.code === ErrorCode.RPC && /^Cannot find program \d+ version \d+$/.test(error.message)) {
      return new CommandError(
        Exit.UNSUPPORTED,
        `the daemon (${name}) does not answer inquiries: it is libvirt's C virtlockd, which tells nobody what it has locked.\n'virt-lockctl swap --to node' replaces it live.`,
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
