/** A member of etcd of a test: one that is a whole cluster, on a port of its own, with its data in a directory of its own. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './process.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}

export interface EtcdOptions {
  /** PEM files; clients must have a certificate of the same CA. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
  /** Bytes of the database from which on it takes no more. */
  readonly quota?: number;
}

export class EtcdMember {
  readonly endpoint: string;
  private readonly peerUrl: string;
  private readonly directory = mkdtempSync(join(tmpdir(), 'virtlockd-etcd-'));
  private readonly options: EtcdOptions;
  private process: ChildProcess | null = null;

  private constructor(port: number, peerPort: number, options: EtcdOptions) {
    this.endpoint = `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
    this.peerUrl = `http://127.0.0.1:${peerPort}`;
    this.options = options;
  }

  static async start(options: EtcdOptions = {}): Promise<EtcdMember> {
    const member = new EtcdMember(await freePort(), await freePort(), options);
    await member.run();
    return member;
  }

  /** Starts its process, and waits until it serves. */
  async run(): Promise<void> {
    const { endpoint, peerUrl } = this;
    const { tls, quota } = this.options;
    const args = [
      ['--name', 'one', '--data-dir', join(this.directory, 'data'), '--logger', 'zap', '--log-level', 'error'],
      ['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl, '--initial-cluster', `one=${peerUrl}`],
      // Tests are many at a time: nobody needs to find its data after a loss of power.
      ['--unsafe-no-fsync', '--heartbeat-interval', '50', '--election-timeout', '250'],
      quota === undefined ? [] : ['--quota-backend-bytes', String(quota)],
      tls === undefined
        ? []
        : ['--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key],
    ].flat();
    const supported = isSupported('--unsafe-no-fsync') ? args : args.filter((arg) => arg !== '--unsafe-no-fsync');
    this.process = spawn('etcd', supported, { stdio: 'ignore' });
    await eventually('etcd serves', () => this.ctl('endpoint', 'health').status === 0, 20_000);
  }

  /** Runs etcdctl. */
  ctl(...args: readonly string[]): { readonly status: number | null; readonly output: string } {
    const { tls } = this.options;
    const options = [
      ['--endpoints', this.endpoint, '--command-timeout', '2s', '--dial-timeout', '1s'],
      tls === undefined ? [] : ['--cacert', tls.ca, '--cert', tls.cert, '--key', tls.key],
    ].flat();
    const { status, stdout, stderr } = spawnSync('etcdctl', [...options, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      encoding: 'latin1',
      timeout: 10_000,
    });
    return { status, output: `${stdout}${stderr}` };
  }

  /** The keys with that prefix, each with its value. */
  keys(prefix: string): Map<string, string> {
    const { output } = this.ctl('get', '--prefix', prefix, '--write-out', 'json');
    const { kvs = [] } = JSON.parse(output) as { kvs?: readonly { key: string; value?: string }[] };
    const decode = (text = ''): string => Buffer.from(text, 'base64').toString('latin1');
    return new Map(kvs.map(({ key, value }) => [decode(key), decode(value)]));
  }

  /** Stops the process as it is, and has it go on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.process?.kill(signal);
  }

  /** Ends the process. Its data stay. */
  async kill(): Promise<void> {
    const { process: child } = this;
    this.process = null;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

let help: string | undefined;

function isSupported(option: string): boolean {
  help ??= spawnSync('etcd', ['--help'], { encoding: 'latin1' }).stdout;
  return help.includes(option);
}
