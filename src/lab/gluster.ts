/** A GlusterFS of one brick, without its management daemon. Its server can be stopped, and answers nobody then. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { eventually, GivenUp, type Running } from './process.ts';
import type { Lab } from './root.ts';

const serverVolume = (directory: string): string => `
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
  option transport.address-family unix
  option transport.socket.listen-path ${directory}/socket
  option auth.addr.locks.allow *
  subvolumes locks
end-volume
`;

/** Without a time limit, as an operator sets it who would rather wait than lose a guest. */
const clientVolume = (directory: string): string => `
volume client
  type protocol/client
  option transport-type socket
  option transport.address-family unix
  option transport.socket.connect-path ${directory}/socket
  option remote-host localhost
  option remote-subvolume locks
  option ping-timeout 0
end-volume
`;

function spawnPart(
  lab: Lab,
  program: string,
  directory: string,
  role: 'server' | 'client',
  ...args: string[]
): Running {
  return lab.spawn(
    program,
    ['--no-daemon', '--volfile', `${directory}/${role}.vol`, '--log-file', '/dev/stderr', ...args],
    { output: `${lab.directory}/${role}.log` },
  );
}

async function startServer(lab: Lab, directory: string): Promise<Running> {
  const server = spawnPart(lab, '/usr/sbin/glusterfsd', directory, 'server');
  await eventually('the GlusterFS server listens', async () => {
    if (server.finished !== undefined) throw new GivenUp(server.output);
    const socket = createConnection(lab.outside(`${directory}/socket`));
    await once(socket, 'connect');
    socket.destroy();
    return true;
  });
  return server;
}

export class Gluster {
  /** Where it is mounted: the same path inside and outside. */
  readonly mount: string;
  private readonly lab: Lab;
  private readonly directory: string;
  private server: Running;
  private readonly clients: Running[] = [];

  private constructor(lab: Lab, directory: string, server: Running) {
    this.lab = lab;
    this.directory = directory;
    this.mount = join(directory, 'mount');
    this.server = server;
  }

  /** Mounts one inside the lab. @throws Error with the client's log */
  static async start(lab: Lab): Promise<Gluster> {
    const directory = join(lab.directory, 'gluster');
    for (const part of ['brick', 'mount']) mkdirSync(join(directory, part), { recursive: true });
    lab.write(`${directory}/server.vol`, serverVolume(directory));
    lab.write(`${directory}/client.vol`, clientVolume(directory));
    const gluster = new Gluster(lab, directory, await startServer(lab, directory));
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
    const client = spawnPart(lab, '/usr/sbin/glusterfs', this.directory, 'client', ...options, mount);
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
    this.server = await startServer(this.lab, this.directory);
  }

  letGo(): void {
    this.server.kill('SIGCONT');
  }

  /** What still hangs fails. */
  async end(): Promise<void> {
    for (const client of this.clients) await client.stop('SIGKILL');
    await this.server.stop('SIGKILL');
  }
}
