/**
 * A GlusterFS of one brick, without its management daemon. Its server can be stopped, and answers nobody then. Over a network its clients
 * can be cut off.
 */
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { eventually, GivenUp, type Running } from './process.ts';
import type { Lab } from './root.ts';
import { Hub, type Spoke } from './veth.ts';

const PORT = 49_152;
/** Over a network: when the server drops a client that it does not hear of, and when a client gives the connection up. In seconds. */
const DROP_S = 4;

/** The transport's options of the server: a socket in the directory, or a port. */
const listening = (directory: string, isNetwork: boolean): string =>
  isNetwork
    ? `  option transport.address-family inet
  option transport.socket.listen-port ${PORT}
  option transport.tcp-user-timeout ${DROP_S}
  option transport.socket.keepalive-time 1
  option transport.socket.keepalive-interval 1
  option transport.socket.keepalive-count ${DROP_S}`
    : `  option transport.address-family unix
  option transport.socket.listen-path ${directory}/socket`;

/** Those of a client. Without a network it has no time limit, as an operator sets it who would rather wait than lose a guest. */
const connecting = (directory: string, spoke: Spoke | undefined): string =>
  spoke === undefined
    ? `  option transport.address-family unix
  option transport.socket.connect-path ${directory}/socket
  option remote-host localhost
  option ping-timeout 0`
    : `  option transport.address-family inet
  option remote-host ${spoke.hubAddress}
  option remote-port ${PORT}
  option ping-timeout ${DROP_S}`;

const serverVolume = (directory: string, isNetwork: boolean): string => `
volume brick
  type storage/posix
  option directory ${directory}/brick
end-volume
volume locks
  type features/locks
  subvolumes brick
end-volume
volume server
  type protocol/server
  option transport-type socket
${listening(directory, isNetwork)}
  option auth.addr.locks.allow *
  subvolumes locks
end-volume
`;

const clientVolume = (directory: string, spoke?: Spoke): string => `
volume client
  type protocol/client
  option transport-type socket
${connecting(directory, spoke)}
  option remote-subvolume locks
end-volume
`;

/** @param words before the command */
function spawnPart(lab: Lab, words: readonly string[], directory: string, role: string, ...args: string[]): Running {
  const [program = '', ...before] = words;
  return lab.spawn(
    program,
    [...before, '--no-daemon', '--volfile', `${directory}/${role}.vol`, '--log-file', '/dev/stderr', ...args],
    { output: `${lab.directory}/${role}.log` },
  );
}

async function startServer(lab: Lab, directory: string, hub?: Hub): Promise<Running> {
  const server = spawnPart(lab, [...(hub?.words ?? []), '/usr/sbin/glusterfsd'], directory, 'server');
  await eventually('the GlusterFS server listens', async () => {
    if (server.finished !== undefined) throw new GivenUp(server.output);
    if (hub !== undefined) return listens(server.pid);
    const socket = createConnection(lab.outside(`${directory}/socket`));
    await once(socket, 'connect');
    socket.destroy();
    return true;
  });
  return server;
}

/** Whether any process in the network namespace of this one listens at the port. */
function listens(pid: number): boolean {
  const address = `:${PORT.toString(16).toUpperCase()} `;
  return readFileSync(`/proc/${pid}/net/tcp`, 'latin1').includes(`${address}00000000:0000 0A`);
}

interface GlusterOptions {
  /** Server and clients have a network, and each client a link of its own, which can be cut. */
  readonly overNetwork?: boolean;
}

export class Gluster {
  /** Where it is mounted: the same path inside and outside. */
  readonly mount: string;
  private readonly lab: Lab;
  private readonly directory: string;
  private server: Running;
  private readonly clients: Running[] = [];
  private readonly hub: Hub | undefined;
  private readonly spokes: Spoke[] = [];

  private constructor(lab: Lab, directory: string, server: Running, hub: Hub | undefined) {
    this.lab = lab;
    this.hub = hub;
    this.directory = directory;
    this.mount = join(directory, 'mount');
    this.server = server;
  }

  /** Mounts one inside the lab. @throws Error with the client's log */
  static async start(lab: Lab, { overNetwork = false }: GlusterOptions = {}): Promise<Gluster> {
    const directory = join(lab.directory, 'gluster');
    for (const part of ['brick', 'mount']) mkdirSync(join(directory, part), { recursive: true });
    const hub = overNetwork ? await Hub.open(lab) : undefined;
    lab.write(`${directory}/server.vol`, serverVolume(directory, overNetwork));
    const gluster = new Gluster(lab, directory, await startServer(lab, directory, hub), hub);
    await gluster.mountIn(lab);
    return gluster;
  }

  /**
   * Mounts it once more in the same lab, at another path, by a client of its own. Returns where.
   * @param options of the client, `--entry-timeout=0` for example
   * @throws Error with the client's log
   */
  async mountAgain(lab: Lab, ...options: readonly string[]): Promise<string> {
    const mount = `${this.mount}-again`;
    mkdirSync(mount);
    await this.mountIn(lab, mount, options);
    return mount;
  }

  /** Mounts it in another lab, which shares the first one's directory. @throws Error with the client's log */
  async mountIn(lab: Lab, mount = this.mount, options: readonly string[] = []): Promise<void> {
    const spoke = await this.hub?.connect();
    if (spoke !== undefined) this.spokes.push(spoke);
    const role = `client${this.clients.length}`;
    this.lab.write(`${this.directory}/${role}.vol`, clientVolume(this.directory, spoke));
    const words = [...(spoke?.words ?? []), '/usr/sbin/glusterfs'];
    const client = spawnPart(lab, words, this.directory, role, ...options, mount);
    this.clients.push(client);
    await eventually('GlusterFS is mounted', async () => {
      if (client.finished !== undefined) throw new Error(client.output);
      return (
        (await lab.run('mountpoint', ['-q', mount])).code === 0 &&
        (await lab.run('touch', [join(mount, 'disk')])).code === 0
      );
    });
  }

  at(name: string): string {
    return `${this.mount}/${name}`;
  }

  /** Waits until each of the server's threads has stopped: until then one may still answer. */
  async hang(): Promise<void> {
    this.server.kill('SIGSTOP');
    const tasks = `/proc/${this.server.pid}/task`;
    await eventually('the GlusterFS server has stopped', () =>
      readdirSync(tasks).every((task) => readFileSync(`${tasks}/${task}/status`, 'latin1').includes('State:\tT')),
    );
  }

  /** Kills a mount, in the order in which they were made: its server drops the locks of that host. */
  async cutOff(mount: number): Promise<void> {
    await this.clients[mount]?.stop('SIGKILL');
  }

  /** Stops a mount's client, which stays connected: as a host that hangs. */
  freeze(mount: number): void {
    this.clients[mount]?.kill('SIGSTOP');
  }

  /** Takes down the link of a mount's client, or back up. Both ends go on, and are told nothing. */
  async setLink(mount: number, state: 'down' | 'up'): Promise<void> {
    const spoke = this.spokes[mount];
    if (spoke === undefined) throw new Error('it has no network');
    await (state === 'down' ? spoke.cut() : spoke.mend());
  }

  /** Kills the server. Its clients try to connect again every few seconds. */
  async stopServer(): Promise<void> {
    await this.server.stop('SIGKILL');
    // It would find its own socket in use.
    rmSync(this.lab.outside(`${this.directory}/socket`), { force: true });
  }

  /** Kills the server and starts it again: it forgets all locks, and its clients connect again after a moment. */
  async restartServer(): Promise<void> {
    await this.stopServer();
    await this.startServer();
  }

  /** Starts the server again, which knows of no lock. */
  async startServer(): Promise<void> {
    this.server = await startServer(this.lab, this.directory, this.hub);
  }

  letGo(): void {
    this.server.kill('SIGCONT');
  }

  /** What still hangs fails. */
  async end(): Promise<void> {
    for (const client of this.clients) await client.stop('SIGKILL');
    await this.server.stop('SIGKILL');
    await this.hub?.close();
  }
}
