/**
 * Serves the page on the loopback interface, to a browser that sends the token in its address, and metrics to a Prometheus that
 * sends it in a header. Other users of this machine can connect, but must not read who holds which disk; nor may web pages, under
 * any name of 127.0.0.1.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { followChanges } from '../commands/watch.ts';
import { pause } from '../context.ts';
import { connectClient, InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { METRICS_TYPE, metricsOrDown } from '../metrics.ts';
import { isTableName, Model, type Order, type TableName } from './model.ts';
import { page } from './page.ts';

/** How long changes are gathered before the state is read again, in milliseconds. */
const GATHER_MS = 100;
/** The pause is at least this many times as long as the reading, for the sake of a daemon with very many locks. */
const GATHER_TIMES = 5;
/** Changes without an event (an exchanged file, uptime) are seen after this time. */
const REREAD_MS = 10_000;
/** The pause before another attempt to reach a daemon that does not answer. */
const RETRY_MS = 1000;
/** How long the daemon may take to answer for metrics: half of what Prometheus waits by default. */
const METRICS_MS = 5000;
/** Pages that may be open at once. */
const MAX_VIEWERS = 32;

export class PageServer {
  /** The address of the page, with the token. */
  readonly address: string;
  private readonly server: Server;
  /** The Host headers that are accepted: browsers omit port 80. */
  private readonly hosts: ReadonlySet<string | undefined>;
  private readonly token: string;
  private readonly daemon: InquireClient;
  private readonly model = new Model();
  private readonly viewers = new Set<ServerResponse>();
  private readonly abort = new AbortController();
  private tasks: Promise<void>[] = [];
  private stale = true;
  private wake = (): void => undefined;

  private constructor(daemon: InquireClient, server: Server, token: string) {
    const { port } = server.address() as AddressInfo;
    this.daemon = daemon;
    this.server = server;
    this.token = token;
    const host = `127.0.0.1:${port}`;
    this.hosts = new Set([host, new URL(`http://${host}`).host]);
    this.address = `http://${host}/${token}/`;
  }

  /** Serves on a port; 0 is a free one. By default the token is a random one. @throws CommandError when that fails */
  static async start(daemon: InquireClient, port: number, token = randomToken()): Promise<PageServer> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      // Not once(): a later error of accept must not end the process.
      server.on('error', reject);
      server.listen({ host: '127.0.0.1', port }, resolve);
    }).catch((error: unknown) => {
      throw new CommandError(Exit.NO, `cannot serve on port ${port}: ${(error as Error).message}`);
    });
    const self = new PageServer(daemon, server, token);
    server.on('request', (request, response) => {
      // A browser may break off.
      response.on('error', () => undefined);
      try {
        self.answer(request, response);
      } catch {
        // No request may end the server.
        if (response.headersSent) response.destroy();
        else refuse(response, 500, 'This request failed.');
      }
    });
    self.tasks = [self.keepReading(), self.keepFollowing()];
    return self;
  }

  async stop(): Promise<void> {
    this.abort.abort();
    this.wake();
    for (const viewer of this.viewers) viewer.end();
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
    });
    // Do not wait for a daemon that does not answer.
    this.daemon.close();
    await Promise.all(this.tasks);
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    const url = URL.parse(request.url ?? '/', 'http://127.0.0.1');
    if (url === null) {
      refuse(response, 400, 'Invalid address.');
      return;
    }
    const { pathname, searchParams } = url;
    const [, token = '', what = null] = /^\/([^/]*)(?:\/(.*))?$/.exec(pathname) ?? [];
    // Under another host name, a web page may have its own name resolve to 127.0.0.1.
    if (!this.hosts.has(request.headers.host)) refuse(response, 403, MISDIRECTED);
    else if (pathname === '/metrics' && this.isToken(bearerOf(request))) this.sendMetrics(response);
    else if (!this.isToken(token)) refuse(response, 403, MISDIRECTED);
    else if (request.method !== 'GET' && request.method !== 'HEAD') refuse(response, 405, 'This page is read-only.');
    else if (what === '') this.sendPage(response);
    else if (what === 'state') {
      response.setHeader('Content-Type', 'application/json; charset=utf-8');
      response.end(JSON.stringify(this.model.search(searchParams.get('search') ?? '', ordersOf(searchParams))));
    } else if (what === 'events') this.addViewer(response);
    else if (what === 'metrics') this.sendMetrics(response);
    else refuse(response, 404, 'No such page.');
  }

  private isToken(given: string): boolean {
    const [one, other] = [Buffer.from(given), Buffer.from(this.token)];
    return one.length === other.length && timingSafeEqual(one, other);
  }

  private sendPage(response: ServerResponse): void {
    const nonce = randomBytes(16).toString('base64');
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.setHeader(
      'Content-Security-Policy',
      `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    response.end(page(nonce, hostname()));
  }

  /** Asks the daemon on a connection of its own, which is closed when it is late. */
  private sendMetrics(response: ServerResponse): void {
    const daemon = new InquireClient(this.daemon.target, connectClient);
    const late = setTimeout(() => daemon.close(), METRICS_MS);
    metricsOrDown(daemon)
      .then(({ text }) => {
        response.setHeader('Content-Type', METRICS_TYPE);
        response.end(text);
      })
      .catch(() => refuse(response, 500, 'This request failed.'))
      .finally(() => {
        clearTimeout(late);
        daemon.close();
      });
  }

  /** Opens a stream that notifies the page of changes. */
  private addViewer(response: ServerResponse): void {
    if (this.viewers.size >= MAX_VIEWERS) {
      refuse(response, 503, 'Too many pages are open.');
      return;
    }
    response.setHeader('Content-Type', 'text/event-stream');
    response.write('retry: 1000\n\ndata: new\n\n');
    this.viewers.add(response);
    response.on('close', () => this.viewers.delete(response));
  }

  /** Reads the state whenever it is stale, and notifies the viewers. */
  private async keepReading(): Promise<void> {
    const { signal } = this.abort;
    while (!signal.aborted) {
      this.stale = false;
      const begin = performance.now();
      await this.model.read(this.daemon);
      for (const viewer of this.viewers) if (!viewer.writableNeedDrain) viewer.write('data: new\n\n');
      await pause(Math.max(GATHER_MS, (performance.now() - begin) * GATHER_TIMES), signal);
      if (this.isStale()) continue;
      const wait = new AbortController();
      this.wake = () => wait.abort();
      await pause(REREAD_MS, AbortSignal.any([signal, wait.signal]));
    }
  }

  private isStale(): boolean {
    return this.stale;
  }

  /** Subscribes to the daemon's events on a connection of its own, and again when that was lost. */
  private async keepFollowing(): Promise<void> {
    const { signal } = this.abort;
    while (!signal.aborted) {
      const daemon = new InquireClient(this.daemon.target, connectClient);
      try {
        for await (const changes of followChanges(daemon, signal)) if (changes.length > 0) this.noteChange();
      } catch {
        // keepReading() reports the failure.
      }
      daemon.close();
      this.noteChange();
      await pause(RETRY_MS, signal);
    }
  }

  private noteChange(): void {
    this.stale = true;
    this.wake();
  }
}

const MISDIRECTED = 'Use the address that virt-lockctl serve has printed.';

function randomToken(): string {
  return randomBytes(24).toString('base64url');
}

function bearerOf({ headers }: IncomingMessage): string {
  return /^Bearer (.*)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
}

/** `locks=2` and `clients=-0`: the tables' columns to sort by, descending with the sign. */
function ordersOf(parameters: URLSearchParams): Map<TableName, Order> {
  const orders = new Map<TableName, Order>();
  for (const [key, text] of parameters) {
    if (isTableName(key)) orders.set(key, { column: Math.abs(Number(text)), descending: text.startsWith('-') });
  }
  return orders;
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`${text}\n`);
}
