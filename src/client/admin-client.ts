/** The admin program, call by call. */
import {
  ADMIN_STRING_MAX,
  adminProgram,
  type ClientRef,
  type ServerRef,
  ShutdownFlag,
} from '../../xdr/programs/admin.ts';
import { type CallOptions, Client } from './client.ts';
import { ConnectionLost } from './errors.ts';
import { numberAt, type Parameters, readParameters, textAt, writeUnsigned } from './parameters.ts';
import { type Name, nameBytes, textOf, word } from './values.ts';

/** The admin socket of the system's daemon. A session daemon has `$XDG_RUNTIME_DIR/libvirt/virtlockd-admin-sock`. */
export const ADMIN_SOCKET = '/run/libvirt/virtlockd-admin-sock';

/** A libvirt version. */
export interface LibraryVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** A server's worker threads. The lock daemon has none: all numbers are 0, except `prioWorkers` once it was set. */
export interface ThreadPool {
  readonly minWorkers: number;
  readonly maxWorkers: number;
  readonly nWorkers: number;
  readonly freeWorkers: number;
  readonly prioWorkers: number;
  readonly jobQueueDepth: number;
}

/** New values for a thread pool. Omitted ones stay. */
export type ThreadPoolChange = Partial<Pick<ThreadPool, 'minWorkers' | 'maxWorkers' | 'prioWorkers'>>;

/** Limits and numbers of a server's clients, and of its clients that wait for authentication. */
export interface ClientLimits {
  readonly maxClients: number;
  readonly clients: number;
  readonly maxUnauthenticated: number;
  readonly unauthenticated: number;
}

/** New limits for a server. Omitted ones stay. */
export type ClientLimitsChange = Partial<Pick<ClientLimits, 'maxClients' | 'maxUnauthenticated'>>;

/** A connection to a server. */
export interface ConnectedClient {
  /** The server's name. */
  readonly server: string;
  /** Each server counts its clients from 1, and never reuses a number. */
  readonly id: bigint;
  readonly connectedAt: Date;
  /** 0: a UNIX socket. */
  readonly transport: number;
}

/** Who a client is. */
export interface ClientIdentity {
  readonly readonly: boolean;
  readonly userId: number;
  readonly userName: string | undefined;
  readonly groupId: number;
  readonly groupName: string | undefined;
  readonly processId: number;
  /** Absent where there is no SELinux. */
  readonly selinuxContext: string | undefined;
  /** All values in the reply, by libvirt's names. */
  readonly parameters: Parameters;
}

/** A log setting as in virtlockd.conf, and the number of its entries. */
export interface LogSetting {
  readonly text: string;
  readonly count: number;
}

/**
 * A connection to the admin socket of a daemon: libvirt's or this project's. Only the user who runs the daemon may use it; the
 * daemon closes the connections of others at the first call.
 *
 * Methods reject with {@link RemoteFailure} when the daemon refuses, with {@link ConnectionLost}, {@link CallTimeout},
 * {@link ProtocolError} or the reason of the signal, and with TypeError or RangeError for arguments that cannot be sent.
 * The client does not reconnect.
 */
export class AdminClient {
  private readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  /** Connects, and opens the program as virt-admin does. `timeout` is also the default of each call. */
  static async connect(socket: string = ADMIN_SOCKET, options: CallOptions = {}): Promise<AdminClient> {
    const client = await Client.connect(socket, options);
    try {
      await client.call(adminProgram, 'open', { flags: 0 }, options);
    } catch (error) {
      client.close();
      throw error;
    }
    return new AdminClient(client);
  }

  /** Whether calls can still be made. */
  get isOpen(): boolean {
    return this.client.isOpen;
  }

  /** Calls `handler` once when either side has closed the connection; at once if that has happened. */
  onClose(handler: (error: ConnectionLost) => void): void {
    this.client.onClose(handler);
  }

  /** Closes the program as virt-admin does, and in any case the connection. */
  async close(options?: CallOptions): Promise<void> {
    try {
      await this.client.call(adminProgram, 'close', undefined, options);
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    } finally {
      this.client.close();
    }
  }

  /** The version of libvirt that the daemon reports. */
  async libVersion(options?: CallOptions): Promise<LibraryVersion> {
    const { version } = await this.client.call(adminProgram, 'getLibVersion', undefined, options);
    const number = Number(version);
    return { major: Math.floor(number / 1e6), minor: Math.floor(number / 1e3) % 1e3, micro: number % 1e3 };
  }

  /** The names of the servers, `virtlockd` and `admin`, in unspecified order. */
  async servers(options?: CallOptions): Promise<string[]> {
    const { servers } = await this.client.call(adminProgram, 'listServers', { needResults: 1, flags: 0 }, options);
    return servers.map(({ name }) => textOf(name));
  }

  async countServers(options?: CallOptions): Promise<number> {
    const { count } = await this.client.call(adminProgram, 'listServers', { needResults: 0, flags: 0 }, options);
    return count;
  }

  /** The name of a server. Rejects with code NO_SERVER if there is no such server. */
  async lookupServer(name: Name, options?: CallOptions): Promise<string> {
    const args = { name: nameBytes(name, "the server's name", ADMIN_STRING_MAX), flags: 0 };
    const { server } = await this.client.call(adminProgram, 'lookupServer', args, options);
    return textOf(server.name);
  }

  async threadPool(server: Name, options?: CallOptions): Promise<ThreadPool> {
    const { params } = await this.client.call(adminProgram, 'getThreadPool', serverArgs(server), options);
    const found = readParameters(params);
    return {
      minWorkers: numberAt(found, 'minWorkers'),
      maxWorkers: numberAt(found, 'maxWorkers'),
      nWorkers: numberAt(found, 'nWorkers'),
      freeWorkers: numberAt(found, 'freeWorkers'),
      prioWorkers: numberAt(found, 'prioWorkers'),
      jobQueueDepth: numberAt(found, 'jobQueueDepth'),
    };
  }

  async setThreadPool(server: Name, change: ThreadPoolChange, options?: CallOptions): Promise<void> {
    const { minWorkers, maxWorkers, prioWorkers } = change;
    const params = writeUnsigned({ minWorkers, maxWorkers, prioWorkers });
    await this.client.call(adminProgram, 'setThreadPool', { ...serverArgs(server), params }, options);
  }

  async clients(server: Name, options?: CallOptions): Promise<ConnectedClient[]> {
    const args = { ...serverArgs(server), needResults: 1 };
    const { clients } = await this.client.call(adminProgram, 'listClients', args, options);
    return clients.map(connectedClient);
  }

  async countClients(server: Name, options?: CallOptions): Promise<number> {
    const args = { ...serverArgs(server), needResults: 0 };
    const { count } = await this.client.call(adminProgram, 'listClients', args, options);
    return count;
  }

  /** Rejects with code NO_CLIENT if there is no client with that id. */
  async lookupClient(server: Name, id: bigint | number, options?: CallOptions): Promise<ConnectedClient> {
    const args = { ...serverArgs(server), id: BigInt(id) };
    const { client } = await this.client.call(adminProgram, 'lookupClient', args, options);
    return connectedClient(client);
  }

  async clientInfo(server: Name, id: bigint | number, options?: CallOptions): Promise<ClientIdentity> {
    const { params } = await this.client.call(adminProgram, 'getClientInfo', clientArgs(server, id), options);
    const parameters = readParameters(params);
    return {
      readonly: parameters.readonly === true,
      userId: numberAt(parameters, 'unix_user_id'),
      userName: textAt(parameters, 'unix_user_name'),
      groupId: numberAt(parameters, 'unix_group_id'),
      groupName: textAt(parameters, 'unix_group_name'),
      processId: numberAt(parameters, 'unix_process_id'),
      selinuxContext: textAt(parameters, 'selinux_context'),
      parameters,
    };
  }

  /** Closes a client's connection. If it is an owner's own, that releases its locks and kills the owner. */
  async closeClient(server: Name, id: bigint | number, options?: CallOptions): Promise<void> {
    await this.client.call(adminProgram, 'closeClient', clientArgs(server, id), options);
  }

  async limits(server: Name, options?: CallOptions): Promise<ClientLimits> {
    const { params } = await this.client.call(adminProgram, 'getClientLimits', serverArgs(server), options);
    const found = readParameters(params);
    return {
      maxClients: numberAt(found, 'nclients_max'),
      clients: numberAt(found, 'nclients'),
      maxUnauthenticated: numberAt(found, 'nclients_unauth_max'),
      unauthenticated: numberAt(found, 'nclients_unauth'),
    };
  }

  /** Changes limits. No client is disconnected: a server with too many accepts no more until enough have left. */
  async setLimits(server: Name, change: ClientLimitsChange, options?: CallOptions): Promise<void> {
    const params = writeUnsigned({
      nclients_max: change.maxClients,
      nclients_unauth_max: change.maxUnauthenticated,
    });
    await this.client.call(adminProgram, 'setClientLimits', { ...serverArgs(server), params }, options);
  }

  /** The log outputs, such as `3:stderr`. */
  async logOutputs(options?: CallOptions): Promise<LogSetting> {
    const { outputs, count } = await this.client.call(adminProgram, 'getLogOutputs', { flags: 0 }, options);
    return { text: textOf(outputs), count };
  }

  /** The log filters, such as `1:*rpc* `; empty when there are none. */
  async logFilters(options?: CallOptions): Promise<LogSetting> {
    const { filters, count } = await this.client.call(adminProgram, 'getLogFilters', { flags: 0 }, options);
    return { text: textOf(filters ?? ''), count };
  }

  /** Changes the log outputs; empty: the default output. */
  async setLogOutputs(outputs: Name, options?: CallOptions): Promise<void> {
    await this.client.call(adminProgram, 'setLogOutputs', settingArgs(outputs), options);
  }

  /** Changes the log filters; empty: none. */
  async setLogFilters(filters: Name, options?: CallOptions): Promise<void> {
    await this.client.call(adminProgram, 'setLogFilters', settingArgs(filters), options);
  }

  /** Has the daemon read its TLS files again. Always rejects: the lock daemon has no TLS. */
  async updateTls(server: Name, options?: CallOptions): Promise<void> {
    await this.client.call(adminProgram, 'updateTls', serverArgs(server), options);
  }

  /** Has the daemon end after that many idle seconds; 0: never. Since libvirt 9.0.0. */
  async setTimeout(seconds: number, options?: CallOptions): Promise<void> {
    const args = { seconds: word(seconds, 'the timeout'), flags: 0 };
    await this.client.call(adminProgram, 'setTimeout', args, options);
  }

  /**
   * Ends the daemon; with `preserve` it keeps its locks for the next one. Since libvirt 11.3.0. Daemons end without a reply,
   * so the end of the connection counts as one.
   */
  async shutdown(options: CallOptions & { readonly preserve?: boolean | undefined } = {}): Promise<void> {
    const flags = options.preserve === true ? ShutdownFlag.PRESERVE : 0;
    const wasOpen = this.isOpen;
    try {
      await this.client.call(adminProgram, 'shutdown', { flags }, options);
    } catch (error) {
      if (!(wasOpen && error instanceof ConnectionLost)) throw error;
    }
  }
}

function serverOf(name: Name): ServerRef {
  return { name: nameBytes(name, "the server's name", ADMIN_STRING_MAX) };
}

function serverArgs(name: Name): { server: ServerRef; flags: number } {
  return { server: serverOf(name), flags: 0 };
}

/** The daemon finds a client by its id, and ignores timestamp and transport. */
function clientArgs(server: Name, id: bigint | number): { client: ClientRef; flags: number } {
  return { client: { server: serverOf(server), id: BigInt(id), timestamp: 0n, transport: 0 }, flags: 0 };
}

function settingArgs(text: Name): { setting: string; flags: number } {
  return { setting: nameBytes(text, 'the setting', ADMIN_STRING_MAX), flags: 0 };
}

function connectedClient({ server, id, timestamp, transport }: ClientRef): ConnectedClient {
  return { server: textOf(server.name), id, connectedAt: new Date(Number(timestamp) * 1000), transport };
}
