/**
 * Serves the page, on the loopback interface, to whoever knows the token in its address. Others on this machine may
 * connect, but who holds which disk is for this user alone; and pages of the web must not reach it through a browser, by
 * whatever name they call 127.0.0.1.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { followChanges } from '../commands/watch.ts';
import { pause } from '../context.ts';
import { connectClient, InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { Model } from './model.ts';
import { page } from './page.ts';

/** How long changes are gathered before the state is read anew, in milliseconds. */
const GATHER_MS = 100;
/** And how many times longer than the reading itself, so that a very full daemon is not read without pause. */
const GATHER_TIMES = 5;
/** What no event tells (a file exchanged, uptime) is seen after this time. */
const REREAD_MS = 10_000;
/** How soon a daemon that does not answer is tried again. */
const RETRY_MS = 1000;
/** Pages open at once. */
const VIEWERS_MAX = 32;

export class PageServer {
  /** The page's address, token included. */
  readonly address: string;
  private readonly server: Server;
  /** What the page may be called: browsers leave out the port that http has anyway. */
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

  /** Begins to serve on a port, 0 for a free one. @throws CommandError when it cannot be had */
  static async start(daemon: InquireClient, port: number): Promise<PageServer> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      // Not once: what goes wrong with accepting later on is no reason to end.
      server.on('error', reject);
      server.listen({ host: '127.0.0.1', port }, resolve);
    }).catch((error: unknown) => {
      throw new CommandError(Exit.NO, `cannot serve on port ${port}: ${(error as Error).message}`);
    });
    const self = new PageServer(daemon, server, randomBytes(24).toString('base64url'));
    server.on('request', (request, response) => {
      // What a client breaks off is its own affair.
      response.on('error', () => undefined);
      try {
        self.answer(request, response);
      } catch {
        // Nothing that is asked may end the server.
        if (response.headersSent) response.destroy();
        else refuse(response, 500, 'This request cannot be answered.');
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
      this.server.close(() => {
        resolve();
      });
    });
    // A daemon that does not answer is not waited for.
    this.daemon.close();
    await Promise.all(this.tasks);
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    const url = URL.parse(request.url ?? '/', 'http://127.0.0.1');
    if (url === null) {
      refuse(response, 400, 'This is no address.');
      return;
    }
    const { pathname, searchParams } = url;
    const [, token = '', what = null] = /^\/([^/]*)(?:\/(.*))?$/.exec(pathname) ?? [];
    // Another name for this address is a page of the web that has its own name point here.
    if (!this.hosts.has(request.headers.host) || !this.isToken(token)) {
      refuse(response, 403, 'This page is reached by the address that virt-lockctl serve has printed.');
    } else if (request.method !== 'GET' && request.method !== 'HEAD')
      refuse(response, 405, 'There is nothing to change here.');
    else if (what === '') this.sendPage(response);
    else if (what === 'state') {
      response.setHeader('Content-Type', 'application/json; charset=utf-8');
      response.end(JSON.stringify(this.model.search(searchParams.get('search') ?? '')));
    } else if (what === 'events') this.addViewer(response);
    else refuse(response, 404, 'There is no such page.');
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
    response.end(page(nonce));
  }

  /** A stream on which it is told that there is something new. */
  private addViewer(response: ServerResponse): void {
    if (this.viewers.size >= VIEWERS_MAX) {
      refuse(response, 503, 'Too many of these pages are open.');
      return;
    }
    response.setHeader('Content-Type', 'text/event-stream');
    response.write('retry: 1000\n\ndata: new\n\n');
    this.viewers.add(response);
    response.on('close', () => {
      this.viewers.delete(response);
    });
  }

  /** Reads the state whenever it is stale, and tells the viewers. */
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
      this.wake = () => {
        wait.abort();
      };
      await pause(REREAD_MS, AbortSignal.any([signal, wait.signal]));
    }
  }

  private isStale(): boolean {
    return this.stale;
  }

  /** Listens to the daemon's events, on a connection of its own, and again after it was lost. */
  private async keepFollowing(): Promise<void> {
    const { signal } = this.abort;
    while (!signal.aborted) {
      const daemon = new InquireClient(this.daemon.target, connectClient);
      try {
        for await (const changes of followChanges(daemon, signal)) if (changes.length > 0) this.noteChange();
      } catch {
        // The reading of the state says what is wrong.
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

function refuse(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`${text}\n`);
}
