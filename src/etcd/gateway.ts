/**
 * The members of etcd by their JSON gateway. A call goes to one member; if that does not answer, to the next, until its time is over. So
 * a call may be made several times, and take effect several times or after its end: callers ask for what may be done twice.
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createSecureContext } from 'node:tls';
import { toPath } from '../posix/bytes.ts';
import { Failure } from './messages.ts';
import type { EtcdSettings } from './settings.ts';

/** The longest that one member is waited for, in milliseconds. */
const MAX_ATTEMPT_MS = 2000;
const MIN_ATTEMPT_MS = 200;
/** Before all members are tried once more. */
const PAUSE_MS = 100;
const MAX_ANSWER = 32 * 1024 * 1024;
/** Connections to a member: of calls, and of those for leases, which do not wait behind them. */
const MAX_CONNECTIONS = 32;
const MAX_LEASE_CONNECTIONS = 8;
/** Between two looks whether the certificates' files have changed, in milliseconds. */
const REREAD_MS = 5000;
/** Of gRPC: members that do not serve at present. */
const CANCELLED = 1;
const UNKNOWN = 2;
const DEADLINE_EXCEEDED = 4;
const UNAUTHENTICATED = 16;
const UNAVAILABLE = 14;

export class EtcdError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure, message: string) {
    super(message);
    this.failure = failure;
  }
}

/** A member has not done it, and another one might. */
class AttemptError extends Error {}

class ClusterError extends AttemptError {}

/** The member and this host do not accept each other's certificates. */
class CertificateError extends AttemptError {}

export type Json = Readonly<Record<string, unknown>>;

export class Gateway {
  private readonly settings: EtcdSettings;
  private readonly endpoints: readonly string[];
  /** Of each member: connections of one do not wait for those of another. */
  private agents: readonly Agents[] | null = null;
  private certificates: Certificates = {};
  private readAt = -Infinity;
  /** The member that has answered last. */
  private current = 0;
  private token: string | null = null;
  /** The id of the cluster that has granted the lease; null: of any. */
  private cluster: string | null = null;

  constructor(settings: EtcdSettings) {
    this.settings = settings;
    this.endpoints = settings.endpoints.map((endpoint) => endpoint.replace(/\/$/, ''));
  }

  /** Certificates are renewed while the daemon runs. @throws EtcdError when they cannot be read, and never could */
  private agentsOf(index: number): Agents {
    if (performance.now() >= this.readAt + REREAD_MS) this.readCertificates();
    this.agents ??= this.endpoints.map((endpoint) => new Agents(endpoint, this.certificates));
    const agents = this.agents[index];
    if (agents === undefined) throw new EtcdError(Failure.REFUSED, 'etcd_endpoints names no member');
    return agents;
  }

  private readCertificates(): void {
    const { caFile, certFile, keyFile } = this.settings;
    try {
      const found = {
        ...(caFile === '' ? {} : { ca: readOwn('etcd_ca_file', caFile) }),
        ...(certFile === '' ? {} : { cert: readOwn('etcd_cert_file', certFile) }),
        ...(keyFile === '' ? {} : { key: readOwn('etcd_key_file', keyFile) }),
      };
      const isSame = JSON.stringify(found) === JSON.stringify(this.certificates);
      // A certificate may be written already, and its key not yet.
      if (!isSame) checkCertificates(found);
      this.readAt = performance.now();
      if (isSame) return;
      this.certificates = found;
    } catch (error) {
      if (this.agents === null) throw error;
      this.readAt = performance.now();
      return;
    }
    for (const agents of this.agents ?? []) agents.retire();
    this.agents = null;
  }

  /** A lease is about to be granted, which any cluster may do: one that was lost is made again with another id. */
  forgetCluster(): void {
    this.cluster = null;
  }

  /** The lease was granted by this one, perhaps to the client process before this one. Undefined: that is not known. */
  useCluster(id: string | undefined): void {
    if (id !== undefined && id !== '') this.cluster = id;
  }

  /** Empty: no member has answered. */
  get clusterId(): string {
    return this.cluster ?? '';
  }

  /**
   * @param limit milliseconds
   * @throws EtcdError
   */
  async call(path: string, body: Json, limit: number): Promise<Json> {
    const until = performance.now() + limit;
    const attempt = Math.max(MIN_ATTEMPT_MS, Math.min(MAX_ATTEMPT_MS, limit / (this.endpoints.length + 1)));
    const reasons = new Map<string, AttemptError>();
    for (let tries = 1; ; tries++) {
      const index = this.current;
      const left = until - performance.now();
      if (left <= 0) throw unreachable(reasons);
      try {
        return await this.withToken(index, path, body, Math.min(attempt, left));
      } catch (error) {
        if (!(error instanceof AttemptError)) throw error;
        const endpoint = this.endpoints[index] ?? '';
        // What a member has said in a whole attempt tells more than that it said nothing in the last moment of the call.
        if (left >= attempt || !reasons.has(endpoint)) reasons.set(endpoint, error);
        // Unless another call has found the next one already.
        if (this.current === index) this.current = (index + 1) % this.endpoints.length;
        // One member's certificate may have expired, or none of them fits.
        if (reasons.size === this.endpoints.length && [...reasons.values()].every(isOfCertificate))
          throw new EtcdError(Failure.REFUSED, error.message);
        if (tries % this.endpoints.length === 0) await pause(Math.min(PAUSE_MS, until - performance.now()));
      }
    }
  }

  /** Asks each member by itself. */
  async callEach(path: string, body: Json, limit: number): Promise<{ endpoint: string; answer: Json | string }[]> {
    return Promise.all(
      this.endpoints.map(async (endpoint, index) => {
        try {
          return { endpoint, answer: await this.withToken(index, path, body, Math.min(limit, MAX_ATTEMPT_MS)) };
        } catch (error) {
          return { endpoint, answer: error instanceof Error ? error.message : String(error) };
        }
      }),
    );
  }

  /** Members that are of another cluster than the one that has granted the lease. */
  async findStrangers(limit: number): Promise<string[]> {
    const isStranger = this.endpoints.map(async (_, index) => {
      try {
        await this.post(index, '/v3/maintenance/status', {}, limit);
        return false;
      } catch (error) {
        return error instanceof ClusterError;
      }
    });
    const found = await Promise.all(isStranger);
    return this.endpoints.filter((_, index) => found[index] === true);
  }

  private async withToken(index: number, path: string, body: Json, limit: number): Promise<Json> {
    const until = performance.now() + limit;
    const isUser = this.settings.user !== '';
    for (let tries = 0; ; tries++) {
      if (isUser) this.token ??= await this.authenticate(index, until - performance.now());
      const used = this.token;
      try {
        return await this.post(index, path, body, until - performance.now());
      } catch (error) {
        if (error instanceof EtcdError && error.failure === Failure.NO_LEASE)
          await this.assertCluster(index, until - performance.now());
        // Tokens expire, and a member that was restarted knows none.
        if (!(error instanceof TokenError)) throw error;
        if (!isUser || tries > 0) throw new EtcdError(Failure.REFUSED, error.message);
        if (this.token === used) this.token = null;
      }
    }
  }

  /**
   * A member has refused the lease, which is no fault where it is of another cluster: refusals do not say of which.
   *
   * @throws AttemptError unless it is of the cluster that has granted the lease
   */
  private async assertCluster(index: number, limit: number): Promise<void> {
    try {
      await this.post(index, '/v3/maintenance/status', {}, limit);
    } catch (error) {
      if (error instanceof AttemptError) throw error;
      throw new AttemptError(`of which cluster it is cannot be found out: ${(error as Error).message}`);
    }
  }

  private async authenticate(index: number, limit: number): Promise<string> {
    const { user, password, passwordFile } = this.settings;
    const secret = passwordFile === '' ? password : readOwn('etcd_password_file', passwordFile).replace(/\r?\n$/, '');
    const { token } = await this.post(index, '/v3/auth/authenticate', { name: user, password: secret }, limit, false);
    if (typeof token !== 'string') throw new EtcdError(Failure.REFUSED, 'etcd gave no token for etcd_user');
    return token;
  }

  private async post(index: number, path: string, body: Json, limit: number, withToken = true): Promise<Json> {
    const endpoint = this.endpoints[index] ?? '';
    const text = JSON.stringify(body);
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(withToken && this.token !== null ? { authorization: this.token } : {}),
    };
    const { request } = endpoint.startsWith('https:') ? https : http;
    const agent = this.agentsOf(index).forPath(path);
    const answer = await new Promise<Json>((resolve, reject) => {
      const fail = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      const sent = request(`${endpoint}${path}`, { method: 'POST', headers, agent }, (response) => {
        const parts: Buffer[] = [];
        let size = 0;
        response.on('data', (part: Buffer) => {
          parts.push(part);
          size += part.length;
          if (size > MAX_ANSWER) sent.destroy(new Error(`its answer has more than ${MAX_ANSWER} bytes`));
          // A stream of answers: the first is wanted.
          if (path !== KEEP_ALIVE || !part.includes('\n')) return;
          response.destroy();
          end();
        });
        response.on('error', (error) => {
          fail(new AttemptError(error.message));
        });
        const end = (): void => {
          clearTimeout(timer);
          try {
            resolve(read(response.statusCode ?? 0, Buffer.concat(parts).toString()));
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        };
        response.on('end', end);
      });
      const timer = setTimeout(
        () => {
          sent.destroy(new Error(`no answer within ${Math.round(limit)} ms`));
        },
        Math.max(limit, 1),
      );
      sent.on('error', (error: NodeJS.ErrnoException) => {
        fail(
          concernsCertificate(error)
            ? new CertificateError(certificateText(error))
            : new AttemptError(networkText(error)),
        );
      });
      sent.end(text);
    });
    this.checkCluster(answer);
    return answer;
  }

  /** An answer of another server than etcd must not be taken for one, nor that of a cluster that has other locks. @throws AttemptError */
  private checkCluster({ header }: Json): void {
    const id = typeof header === 'object' && header !== null ? (header as Json).cluster_id : undefined;
    if (typeof id !== 'string') throw new AttemptError('its answer is none of etcd');
    this.cluster ??= id;
    if (id !== this.cluster) throw new ClusterError('it is a member of another cluster');
  }
}

export const KEEP_ALIVE = '/v3/lease/keepalive';

interface Certificates {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** The connections of a member. */
class Agents {
  private readonly calls: http.Agent;
  private readonly leases: http.Agent;

  constructor(endpoint: string, certificates: Certificates) {
    const make = (maxSockets: number): http.Agent =>
      endpoint.startsWith('https:')
        ? new https.Agent({ ...certificates, keepAlive: true, maxSockets })
        : new http.Agent({ keepAlive: true, maxSockets });
    this.calls = make(MAX_CONNECTIONS);
    this.leases = make(MAX_LEASE_CONNECTIONS);
  }

  forPath(path: string): http.Agent {
    return path === KEEP_ALIVE ? this.leases : this.calls;
  }

  /** Keeps no connection any more. Calls in progress go on. */
  retire(): void {
    for (const agent of [this.calls, this.leases]) {
      agent.maxFreeSockets = 0;
      for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
    }
  }
}

/** @throws EtcdError */
function checkCertificates(certificates: Certificates): void {
  try {
    createSecureContext(certificates);
  } catch (error) {
    throw new EtcdError(Failure.REFUSED, certificateText(error as Error));
  }
}

const COMMON_NAME =
  'etcd takes no user beside a client certificate with a common name: make that of etcd_cert_file without one, as by openssl req -subj /O=host';

/** The token is not known to the member. */
class TokenError extends Error {}

/** @throws EtcdError, AttemptError or TokenError */
function read(status: number, text: string): Json {
  let answer: Json;
  try {
    const [first = ''] = text.split('\n', 1);
    answer = JSON.parse(first) as Json;
  } catch {
    // With users and certificates of clients, etcd refuses its gateway to those whose certificate might mean another user.
    if (text.includes('CommonName of client')) throw new EtcdError(Failure.REFUSED, COMMON_NAME);
    throw new AttemptError(`answered with status ${status} and no JSON`);
  }
  const wrapped = answer.error;
  // A stream wraps its errors.
  const error = typeof wrapped === 'object' && wrapped !== null ? (wrapped as Json) : answer;
  const code = Number(error.code ?? error.grpc_code ?? 0);
  if (status === 200 && wrapped === undefined) {
    const result = answer.result;
    return typeof result === 'object' && result !== null ? (result as Json) : answer;
  }
  const told = error.message ?? error.error;
  const message = typeof told === 'string' ? told : `status ${status}`;
  if (/invalid auth token|auth token is|revision of auth store is old/.test(message) || code === UNAUTHENTICATED)
    throw new TokenError(message);
  if (message.includes('lease not found')) throw new EtcdError(Failure.NO_LEASE, 'the lease is gone');
  if (isPassing(code, message)) throw new AttemptError(message);
  throw new EtcdError(Failure.REFUSED, explain(message));
}

/** Whether another member, or the same one later, may do it. */
function isPassing(code: number, message: string): boolean {
  if (code === UNAVAILABLE || code === DEADLINE_EXCEEDED || code === CANCELLED) return true;
  // Of a member that ends, or was cut off from the others.
  return code === UNKNOWN && /context|stopped|transport|leader|timed out/.test(message);
}

/** With what an operator can do. */
function explain(message: string): string {
  if (message.includes('database space exceeded'))
    return `etcd is full (alarm NOSPACE), and takes no locks until an operator has compacted and defragmented it and disarmed the alarm: ${message}`;
  if (message.includes('permission denied'))
    return `etcd_user lacks the permission for keys below etcd_prefix: ${message}`;
  if (/authentication failed|invalid user|user name is empty/.test(message))
    return `etcd refuses user and password: ${message}`;
  if (/data corrupt|CORRUPT/.test(message))
    return `etcd has the alarm CORRUPT, and an operator must repair it: ${message}`;
  return message;
}

function isOfCertificate(error: AttemptError): boolean {
  return error instanceof CertificateError;
}

function concernsCertificate({ code = '', message }: NodeJS.ErrnoException): boolean {
  return (
    /^(?:ERR_TLS|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|ERR_SSL|ERR_OSSL)/.test(code) || /\balert\b/.test(message)
  );
}

function certificateText({ message }: Error): string {
  return `the certificates do not fit (etcd_ca_file, etcd_cert_file, etcd_key_file): ${message}`;
}

function networkText({ code, message }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'nobody listens there';
    case 'ECONNRESET':
      return 'the connection was reset';
    default:
      return message;
  }
}

function unreachable(reasons: ReadonlyMap<string, Error>): EtcdError {
  const texts = Array.from(reasons, ([endpoint, { message }]) => `${endpoint}: ${message}`);
  return new EtcdError(Failure.UNREACHABLE, `etcd does not answer (${texts.join('; ')})`);
}

/** @throws EtcdError */
function readOwn(setting: string, path: string): string {
  try {
    return readFileSync(toPath(path), 'utf8');
  } catch (error) {
    throw new EtcdError(Failure.REFUSED, `${setting}: ${(error as Error).message}`);
  }
}

async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(milliseconds, 0)));
}
