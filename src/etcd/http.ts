/**
 * HTTP/1.1 as far as the gateway of etcd needs it: requests with a body of JSON, one at a time on a connection, which is kept for the next
 * one. Node's own client serves everybody, and takes a fifth of the time of a transaction for that.
 *
 * A connection on which anything went wrong is closed: no answer may be taken for that to another request.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectSecurely, createSecureContext, type SecureContext } from 'node:tls';

/** Bytes of the lines before an answer's body. */
const MAX_HEAD = 64 * 1024;
const MAX_BODY = 32 * 1024 * 1024;
/** How long the rest of a stream may take whose first line has come, in milliseconds. */
const REST_MS = 1000;
const LINE_END = Buffer.from('\r\n');
const HEAD_END = Buffer.from('\r\n\r\n');
const NONE = Buffer.alloc(0);

const headerNamed = (name: string): RegExp => new RegExp(`\\r\\n${name}:[ \\t]*([^\\r\\n]*?)[ \\t]*(?:\\r|$)`, 'i');
const LENGTH = headerNamed('content-length');
const ENCODING = headerNamed('transfer-encoding');
const CONNECTION = headerNamed('connection');

/** PEM; without a `ca` the system's count. */
export interface Certificates {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface HttpRequest {
  readonly path: string;
  readonly body: string;
  /** Of the header of that name; null: none. */
  readonly authorization: string | null;
  /** The first line of the answer's body is wanted. */
  readonly isStream: boolean;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

interface Exchange {
  readonly request: HttpRequest;
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: Error) => void;
  timer: NodeJS.Timeout | undefined;
  isOver: boolean;
}

/** The parts of an answer, as far as they have come. */
interface Parts {
  readonly status: number;
  /** Bytes of the body; null: in chunks; -1: until the connection ends. */
  readonly length: number | null;
  readonly isLast: boolean;
  body: Buffer;
}

/** @throws Error for what is no HTTP, or more than is wanted */
function parseHead(head: string): Parts {
  const status = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |\r|$)/.exec(head);
  if (status === null) throw new Error('its answer is no HTTP');
  const [size, encoding, connection] = [LENGTH, ENCODING, CONNECTION].map((header) =>
    header.exec(head)?.[1]?.toLowerCase(),
  );
  if (encoding !== undefined && encoding !== 'chunked') throw new Error(`its answer is encoded as ${encoding}`);
  if (size !== undefined && !/^\d{1,10}$/.test(size)) throw new Error('its answer is no HTTP');
  const length = encoding !== undefined ? null : size !== undefined ? Number(size) : -1;
  if (length !== null && length > MAX_BODY) throw tooLong();
  const isLast = length === -1 || connection === 'close' || (status[1] === '0' && connection !== 'keep-alive');
  return { status: Number(status[2]), length, isLast, body: NONE };
}

const tooLong = (): Error => new Error(`its answer has more than ${MAX_BODY} bytes`);

/** What Node's own client says of a connection that ends before its answer. */
function closed(): NodeJS.ErrnoException {
  return Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' });
}

class Connection {
  private readonly pool: Connections;
  private readonly socket: Socket;
  private exchange: Exchange | null = null;
  private input: Buffer = NONE;
  /** Of the present answer; null: its head has not come yet. */
  private parts: Parts | null = null;
  isClosed = false;

  constructor(pool: Connections, socket: Socket) {
    this.pool = pool;
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.onData(bytes);
    });
    socket.on('error', (error) => {
      this.fail(error);
    });
    socket.on('close', () => {
      this.onEnd();
    });
    socket.on('end', () => {
      this.onEnd();
    });
  }

  send(exchange: Exchange): void {
    const { path, body, authorization } = exchange.request;
    this.exchange = exchange;
    this.socket.ref();
    const token = authorization === null ? '' : `Authorization: ${authorization}\r\n`;
    const length = Buffer.byteLength(body);
    this.socket.write(
      `POST ${path} HTTP/1.1\r\nHost: ${this.pool.host}\r\n${token}Content-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`,
    );
  }

  /** Whether it has that request. */
  has(exchange: Exchange): boolean {
    return this.exchange === exchange;
  }

  private onData(bytes: Buffer): void {
    if (this.exchange === null) {
      // Nobody has asked.
      this.close();
      return;
    }
    this.input = this.input.length === 0 ? bytes : Buffer.concat([this.input, bytes]);
    try {
      this.parse(this.exchange);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  private parse(exchange: Exchange): void {
    while (this.parts === null) {
      const end = this.input.indexOf(HEAD_END);
      if (end > MAX_HEAD || (end < 0 && this.input.length > MAX_HEAD)) throw new Error('its answer is no HTTP');
      if (end < 0) return;
      const parts = parseHead(this.input.toString('latin1', 0, end));
      this.input = this.input.subarray(end + HEAD_END.length);
      // Others are about an answer that is still to come.
      if (parts.status >= 200) this.parts = parts;
    }
    const { parts } = this;
    const isWhole = parts.length === null ? this.takeChunks(parts) : this.takeBytes(parts, parts.length);
    if (!isWhole && (exchange.isOver || !exchange.request.isStream || !parts.body.includes('\n'))) return;
    if (!exchange.isOver) exchange.resolve({ status: parts.status, body: parts.body.toString() });
    settle(exchange);
    if (isWhole) this.finish(parts);
    else this.closeUnlessWhole(exchange);
  }

  private takeBytes(parts: Parts, length: number): boolean {
    const left = length < 0 ? this.input.length : length - parts.body.length;
    this.append(parts, this.input.subarray(0, left));
    this.input = this.input.subarray(left);
    return parts.body.length === length;
  }

  private takeChunks(parts: Parts): boolean {
    for (;;) {
      const end = this.input.indexOf(LINE_END);
      if (end < 0 && this.input.length > MAX_HEAD) throw new Error('its answer is no HTTP');
      if (end < 0) return false;
      const digits = /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(this.input.toString('latin1', 0, end))?.[1];
      if (digits === undefined) throw new Error('its answer is no HTTP');
      const size = Number.parseInt(digits, 16);
      if (size > MAX_BODY) throw tooLong();
      const start = end + LINE_END.length;
      if (size === 0) {
        // Lines of a trailer may follow, up to an empty one.
        const last = this.input.indexOf(HEAD_END, end);
        if (last < 0) return false;
        this.input = this.input.subarray(last + HEAD_END.length);
        return true;
      }
      if (this.input.length < start + size + LINE_END.length) return false;
      if (this.input.compare(LINE_END, 0, LINE_END.length, start + size, start + size + LINE_END.length) !== 0)
        throw new Error('its answer is no HTTP');
      this.append(parts, this.input.subarray(start, start + size));
      this.input = this.input.subarray(start + size + LINE_END.length);
    }
  }

  private append(parts: Parts, bytes: Buffer): void {
    if (parts.body.length + bytes.length > MAX_BODY) throw tooLong();
    parts.body = parts.body.length === 0 ? bytes : Buffer.concat([parts.body, bytes]);
  }

  private closeUnlessWhole(exchange: Exchange): void {
    setTimeout(() => {
      if (this.exchange === exchange) this.close();
    }, REST_MS).unref();
  }

  /** The answer is whole. */
  private finish({ isLast }: Parts): void {
    this.exchange = null;
    this.parts = null;
    if (isLast || this.input.length > 0) {
      this.close();
      return;
    }
    this.input = NONE;
    this.socket.unref();
    this.pool.isFree(this);
  }

  private onEnd(): void {
    const { exchange, parts } = this;
    if (exchange !== null && parts?.length === -1 && !exchange.isOver) {
      exchange.resolve({ status: parts.status, body: parts.body.toString() });
      settle(exchange);
    }
    this.fail(closed());
  }

  /** Closes it, and fails its request. */
  fail(error: Error): void {
    const { exchange } = this;
    this.exchange = null;
    this.close();
    if (exchange === null || exchange.isOver) return;
    exchange.reject(error);
    settle(exchange);
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.socket.destroy();
    this.pool.closed(this);
  }
}

function settle(exchange: Exchange): void {
  clearTimeout(exchange.timer);
  exchange.isOver = true;
}

/** The connections to one server. */
export class Connections {
  /** As URLs write it. */
  readonly host: string;
  private readonly hostname: string;
  private readonly port: number;
  private readonly context: SecureContext | null;
  private readonly most: number;
  private readonly all = new Set<Connection>();
  private readonly free: Connection[] = [];
  private readonly waiting: Exchange[] = [];
  private isRetired = false;

  /**
   * @param most how many at a time; further requests wait
   * @throws Error for certificates that cannot be used
   */
  constructor(endpoint: string, certificates: Certificates, most: number) {
    const { host, hostname, port, protocol } = new URL(endpoint);
    const isSecure = protocol === 'https:';
    this.host = host;
    this.hostname = hostname.replace(/^\[(.*)\]$/, '$1');
    this.port = port === '' ? (isSecure ? 443 : 80) : Number(port);
    this.context = isSecure ? createSecureContext(certificates) : null;
    this.most = most;
  }

  /**
   * @param limit milliseconds, after which the request is given up: it may take effect all the same
   * @throws Error with the code of system calls and of TLS, where these have failed
   */
  async post(request: HttpRequest, limit: number): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const exchange: Exchange = { request, resolve, reject, timer: undefined, isOver: false };
      exchange.timer = setTimeout(
        () => {
          this.giveUp(exchange, new Error(`no answer within ${Math.round(limit)} ms`));
        },
        Math.max(limit, 1),
      );
      const connection = this.free.pop();
      if (connection !== undefined) connection.send(exchange);
      else if (this.all.size < this.most) this.open().send(exchange);
      else this.waiting.push(exchange);
    });
  }

  /** Closes those that are not in use, and the others once they are not. */
  retire(): void {
    this.isRetired = true;
    for (const connection of [...this.free]) connection.close();
  }

  private open(): Connection {
    const { hostname: host, port, context } = this;
    const options = { host, port, noDelay: true };
    const name = isIP(host) === 0 ? { servername: host } : {};
    const socket =
      context === null
        ? connect(options)
        : connectSecurely({ ...options, ...name, secureContext: context, ALPNProtocols: ['http/1.1'] });
    const connection = new Connection(this, socket);
    this.all.add(connection);
    return connection;
  }

  private giveUp(exchange: Exchange, error: Error): void {
    const index = this.waiting.indexOf(exchange);
    if (index >= 0) this.waiting.splice(index, 1);
    if (index >= 0) {
      exchange.reject(error);
      settle(exchange);
      return;
    }
    // Its answer may come later.
    for (const connection of [...this.all]) if (connection.has(exchange)) connection.fail(error);
  }

  /** Of a connection: its answer has come. */
  isFree(connection: Connection): void {
    const next = this.waiting.shift();
    if (next !== undefined) connection.send(next);
    else if (this.isRetired) connection.close();
    else this.free.push(connection);
  }

  closed(connection: Connection): void {
    this.all.delete(connection);
    const index = this.free.indexOf(connection);
    if (index >= 0) this.free.splice(index, 1);
    const next = this.waiting.shift();
    if (next !== undefined) this.open().send(next);
  }
}
