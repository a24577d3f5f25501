/**
 * The daemon in this very process: its servers, dispatch and lockspaces, fed with bytes as the poller would, without
 * its event loop. Replies leave through a socket pair.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import os from 'node:os';
import { LogSettings } from '../admin/log-settings.ts';
import { logging } from '../daemon/log/log.ts';
import { Daemon } from '../daemon/daemon.ts';
import { posix } from '../posix/posix.ts';
import type { Connection } from '../rpc/connection.ts';
import { outbox } from '../rpc/outbox.ts';
import { captureState } from '../restart/capture.ts';
import { formatDocument } from '../restart/document.ts';
import { parseDocument, parseJson } from '../restart/parse.ts';
import { client } from './client.ts';
import type { Link, Target } from './target.ts';
import { wipe } from './world.ts';

const { EAGAIN } = os.constants.errno;
/** No process has it, so that an owner's end kills nobody. */
const PEER = 5_000_001;

const into = Buffer.alloc(256 * 1024);
const NO_KNOWN: ReadonlySet<string> = new Set();

class InProcessLink implements Link {
  private readonly connection: Connection;
  private readonly fd: number;

  constructor(connection: Connection, fd: number) {
    this.connection = connection;
    this.fd = fd;
  }

  send(bytes: Buffer, descriptors: number): void {
    if (this.connection.isOpen) this.connection.onRead(bytes, 0, bytes.length, descriptors > 0);
    outbox.send();
  }

  receive(): Buffer | 'closed' | null {
    const got = client.receive(this.fd, into, 0, 0);
    if (got > 0) return Buffer.from(into.subarray(0, got));
    return got === -EAGAIN ? null : 'closed';
  }

  finish(): void {
    if (this.connection.isOpen) this.connection.onRead(into, 0, 0, false);
  }

  close(): void {
    this.finish();
    client.close(this.fd);
  }
}

export class InProcess implements Target {
  readonly name = 'in-process';
  readonly base: string;
  readonly pid = process.pid;
  readonly peer = PEER;
  readonly patience = 0;
  readonly known = NO_KNOWN;
  private daemon: Daemon;
  private readonly pair = new Int32Array(2);

  constructor(base: string) {
    this.base = base;
    mkdirSync(base, { recursive: true });
    process.chdir(base);
    // What clients do wrong is logged, which takes longer than to serve it.
    new LogSettings(logging).setOutputs('4:file:/dev/null');
    this.daemon = this.make();
  }

  private make(): Daemon {
    return new Daemon({
      version: 12_008_000,
      maxClients: 1000,
      adminMaxClients: 1000,
      timeout: 0,
      logging: new LogSettings(logging),
      life: { program: '', started: 1, executed: 1, restarts: 0 },
      onTimeout: () => undefined,
      onShutdown: () => undefined,
    });
  }

  open(): Link | null {
    if (client.pair(this.pair) < 0) return null;
    const [near = -1, far = -1] = this.pair;
    posix.setNonblocking(near);
    const { lockServer } = this.daemon;
    const id = lockServer.nextClientId;
    lockServer.onAccept(near, PEER, process.geteuid?.() ?? 0, 0);
    const opened = lockServer.clients.get(id);
    if (opened === undefined) {
      client.close(far);
      return null;
    }
    return new InProcessLink(opened.connection, far);
  }

  /** Here, the state as it would be handed over is written and read. */
  restart(): string | null {
    const state = captureState(this.daemon, { restarts: 1, started: 1 });
    const bytes = formatDocument(state);
    const again = formatDocument(parseDocument(parseJson(bytes)));
    return bytes.equals(again) ? null : 'the state document is not read as it was written';
  }

  death(): string | null {
    return null;
  }

  descriptors(): number {
    return readdirSync('/proc/self/fd').length;
  }

  memory(): number {
    return process.memoryUsage.rss();
  }

  settle(): void {
    for (const { resources } of this.daemon.lockspaces) {
      for (const resource of [...resources.values()]) this.daemon.lockspaces.endResource(resource);
    }
    this.daemon = this.make();
    wipe(this.base);
  }

  reset(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}
