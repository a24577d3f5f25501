/** Plays an exchange to a lock daemon and writes its transcript. */
import { setImmediate } from 'node:timers/promises';
import { readdirSync, lstatSync } from 'node:fs';
import { openDescriptors } from '../../../proc/descriptors.ts';
import { type Message, Peer, encode } from '../../../lab/wire.ts';
import { type LockRow, locksOf, snapshot } from '../../../lab/observe.ts';
import { Actor } from './actor.ts';
import { type Connection, ActorConnection, PeerConnection } from './connection.ts';
import { change } from './files.ts';
import { type Exchange, type Step, keepalive } from './script.ts';
import { type Variable, masked, renderBytes } from './transcript.ts';

/** A daemon that exchanges can be played to. */
export interface Playable {
  /** Undefined when it is unknown: then locks and descriptors are not read. */
  readonly pid: number | undefined;
  readonly socket: string;
  readonly adminSocket: string;
  /** How it has ended, or undefined while it runs. */
  readonly finished: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  readonly exited: Promise<unknown>;
}

/** Files of an ordinary user's daemon belong to that user; in the recordings they belong to root. */
const ownerColumn = ` ${process.geteuid?.() ?? 0}:${process.getegid?.() ?? 0} `;

const ping = encode(keepalive(1));

/** Folds equal lines into one with their number. */
function folded(lines: readonly string[]): string[] {
  const result: string[] = [];
  for (let at = 0, end = at; at < lines.length; at = end) {
    while (end < lines.length && lines[end] === lines[at]) end++;
    const line = lines[at] ?? '';
    result.push(end - at === 1 ? line : `${end - at} times: ${line}`);
  }
  return result;
}

class Player {
  readonly #daemon: Playable;
  readonly #dir: string;
  readonly #signal: AbortSignal | undefined;
  readonly #lines: string[] = [];
  readonly #connections = new Map<string, Connection>();
  readonly #closed = new Set<string>();
  readonly #actors = new Map<string, Actor>();
  readonly #variable: Variable;
  readonly #before: ReadonlySet<string>;
  #barrier: Peer | undefined;
  #descriptors: number | undefined;

  constructor(daemon: Playable, dir: string, signal: AbortSignal | undefined) {
    this.#daemon = daemon;
    this.#dir = dir;
    this.#signal = signal;
    const pids = new Map<string, number>();
    this.#variable = { dir, own: process.pid, actors: pids };
    this.#before = new Set(this.#allLocks().map((row) => JSON.stringify(row)));
  }

  async play(exchange: Exchange): Promise<string[]> {
    const barrier = await Peer.connect(this.#daemon.socket);
    this.#barrier = barrier;
    const abandon = (): void => barrier.close();
    this.#signal?.addEventListener('abort', abandon);
    try {
      // The daemon must accept this connection before those of the exchange.
      await this.#settle();
      for (const step of exchange.steps(this.#dir)) await this.#step(step);
      await this.#look();
      const still = [...this.#connections].flatMap(([name, { lost }]) =>
        lost || this.#closed.has(name) ? [] : [name],
      );
      this.#say(still.length === 0 ? 'none open' : `open: ${still.join(' ')}`);
    } finally {
      for (const connection of this.#connections.values()) await connection.close();
      for (const actor of this.#actors.values()) await actor.stop();
      await this.#passBarrier();
      barrier.close();
      this.#signal?.removeEventListener('abort', abandon);
    }
    return folded(this.#lines);
  }

  #say(line: string): void {
    this.#lines.push(masked(line, this.#variable));
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'open':
        await this.#connection(step.on);
        break;
      case 'send':
        await this.#send(step);
        if (step.queued === true) return;
        break;
      case 'half-close':
        this.#say(`${step.on} half-closes`);
        await (await this.#connection(step.on)).halfClose();
        break;
      case 'close':
        this.#say(`${step.on} closes`);
        await (await this.#connection(step.on)).close();
        this.#closed.add(step.on);
        break;
      case 'gone':
        await (await this.#connection(step.on)).arrived(Infinity);
        break;
      case 'files':
        this.#say(`files: ${step.orders.join('; ')}`);
        for (const order of step.orders) change(this.#dir, order);
        return;
      case 'look':
        return this.#look();
      case 'lock':
        this.#say(`${step.actor} locks ${step.path} ${step.exclusive ? 'WRITE' : 'READ'} ${step.start} ${step.length}`);
        return this.#actor(step.actor).lock(step.path, step.exclusive, step.start, step.length);
      case 'unlock':
        this.#say(`${step.actor} unlocks ${step.path}`);
        return this.#actor(step.actor).unlock(step.path);
      case 'ignore-term':
        return this.#actor(step.actor).ignoreTerm();
      case 'kill':
        this.#say(`${step.actor} gets ${step.signal}`);
        this.#actor(step.actor).kill(step.signal);
        await this.#actor(step.actor).ended;
        break;
      case 'ended':
        this.#say(`${step.actor} ended: ${await this.#actor(step.actor).ended}`);
        break;
      case 'descriptors': {
        const now = this.#openDescriptors();
        const more = this.#descriptors === undefined ? undefined : now - this.#descriptors;
        this.#say(`descriptors: ${more === undefined ? 'counted' : more < 0 ? more : `+${more}`}`);
        this.#descriptors = now;
        return;
      }
    }
    await this.#settle();
  }

  async #send(step: Step & { do: 'send' }): Promise<void> {
    const connection = await this.#connection(step.on);
    const made = typeof step.bytes === 'function' ? step.bytes((actor) => this.#actor(actor).pid) : step.bytes;
    const bytes = Buffer.from(made);
    const extra = step.descriptors === undefined ? '' : ` (descriptors: ${step.descriptors})`;
    for (const line of renderBytes(bytes, this.#variable)) this.#say(`${step.on} > ${line}${extra}`);
    if (step.apart === true) {
      for (const byte of bytes) {
        await connection.send(Buffer.of(byte), 0);
        await this.#passBarrier();
      }
    } else {
      await connection.send(bytes, step.descriptors ?? 0);
    }
    if (step.awaited !== undefined) await connection.arrived(step.awaited);
  }

  /**
   * Waits until the daemon has served everything that was sent so far. A daemon serves its connections in turn and answers
   * each in order: after the answers to several pings it has read, answered and closed all of them.
   */
  async #passBarrier(): Promise<void> {
    for (let count = 0; count < 12 && this.#barrier !== undefined; count++) {
      if (this.#daemon.finished !== undefined) return;
      this.#barrier.send(ping);
      const pong: Message | undefined = await this.#barrier.receive();
      if (pong === undefined) {
        this.#signal?.throwIfAborted();
        await this.#daemon.exited;
        return;
      }
    }
    // Replies that arrived with the last pong are received first.
    await setImmediate();
    await setImmediate();
  }

  async #settle(): Promise<void> {
    await this.#passBarrier();
    const gone: string[] = [];
    for (const [name, connection] of this.#connections) {
      if (this.#closed.has(name)) continue;
      const { bytes, closed } = await connection.receive();
      for (const line of renderBytes(bytes, this.#variable)) this.#say(`${name} < ${line}`);
      if (closed) gone.push(name);
    }
    for (const name of gone) {
      // It is chance whether an actor sees the end of its connection before it is killed.
      if (!name.includes('.')) this.#say(`${name} closed`);
      this.#closed.add(name);
    }
    const end = this.#daemon.finished;
    if (end !== undefined) this.#say(`daemon ended: ${end.signal ?? `exit ${end.code ?? '?'}`}`);
  }

  async #look(): Promise<void> {
    await this.#passBarrier();
    for (const line of snapshot(this.#dir).slice(1)) this.#say(`tree: ${line.replace(ownerColumn, ' 0:0 ')}`);
    for (const line of this.#locks()) this.#say(`lock: ${line}`);
  }

  /** The daemon's new locks since the exchange began, with their paths in its directory, or `gone`. */
  #locks(): string[] {
    const paths = new Map<number, string>();
    // Names are bytes, one character each.
    const visit = (relative: string): void => {
      const path = Buffer.concat([Buffer.from(this.#dir), Buffer.from(relative, 'latin1')]);
      const stat = lstatSync(path);
      paths.set(stat.ino, relative.slice(1));
      if (stat.isDirectory()) for (const name of readdirSync(path, 'latin1')) visit(`${relative}/${name}`);
    };
    visit('');
    // It may take OFD locks as well: they keep out whom POSIX locks keep out.
    const kind = (lock: LockRow): string => (lock.kind === 'OFDLCK' ? 'POSIX' : lock.kind);
    const row = (lock: LockRow): string =>
      `${kind(lock)} ${lock.access} ${lock.start} ${lock.end} ${paths.get(lock.inode) ?? 'gone'}`;
    const rows = this.#allLocks().filter((lock) => !this.#before.has(JSON.stringify(lock)));
    return rows.map(row).sort();
  }

  #allLocks(): LockRow[] {
    return this.#daemon.pid === undefined ? [] : locksOf(this.#daemon.pid);
  }

  #openDescriptors(): number {
    return this.#daemon.pid === undefined ? 0 : openDescriptors(this.#daemon.pid).length;
  }

  #actor(name: string): Actor {
    const known = this.#actors.get(name);
    if (known !== undefined) return known;
    const actor = Actor.start();
    this.#actors.set(name, actor);
    (this.#variable.actors as Map<string, number>).set(name, actor.pid);
    return actor;
  }

  async #connection(name: string): Promise<Connection> {
    const known = this.#connections.get(name);
    if (known !== undefined) return known;
    const [actor, rest] = name.split('.');
    const path = (rest ?? name).startsWith('admin') ? this.#daemon.adminSocket : this.#daemon.socket;
    const connection =
      rest === undefined
        ? await PeerConnection.open(path)
        : await ActorConnection.open(this.#actor(actor ?? name), name, path);
    this.#connections.set(name, connection);
    await this.#settle();
    return connection;
  }
}

/**
 * @param dir an empty directory
 * @param signal ends the wait for a daemon that does not answer; the play then fails
 * @returns the transcript: messages, replies, closed connections, and at the end the files and locks
 */
export async function play(daemon: Playable, exchange: Exchange, dir: string, signal?: AbortSignal): Promise<string[]> {
  return new Player(daemon, dir, signal).play(exchange);
}
