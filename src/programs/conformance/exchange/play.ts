/** Plays an exchange to a lock daemon and writes its transcript. */
import { readdirSync, lstatSync } from 'node:fs';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { openDescriptors } from '../../../proc/descriptors.ts';
import { type Message, Peer, encode } from '../../../lab/wire.ts';
import { patient } from '../../../lab/patience.ts';
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

const timesColumn = /^\d+ times: /;

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

/** How long the answer to a call is waited for, in milliseconds: some calls have none, or none yet. */
const ANSWER_MS = 200;
/** How often an answer is looked for at least: this process may have been busy with another daemon all that time. */
const LOOKS = 20;
/**
 * How long the right answers, files and locks are waited for, in milliseconds: some calls take long, and no answer says when an ended
 * owner's lease is gone.
 */
const RIGHT_MS = 2000;

/** How a play ends early, and what its looks wait for. */
export interface PlayOptions {
  /** Ends the wait for a daemon that does not answer; the play then fails. */
  readonly signal?: AbortSignal;
  /** The right transcript. Late answers and looks that differ from it are waited for, until one has differed for long. */
  readonly right?: readonly string[] | undefined;
}

interface Rendered {
  readonly bytes: Buffer;
  readonly lines: readonly string[];
  readonly closed: boolean;
}

function count(lines: readonly string[], kind: 'CALL' | 'REPLY'): number {
  return lines.filter((line) => line.startsWith(`${kind} `)).length;
}

/** The lines of what has come, by connection. */
function heard(all: ReadonlyMap<string, Rendered>): string[] {
  const lines = [...all].flatMap(([name, one]) => one.lines.map((line) => `${name} < ${line}`));
  // It is chance whether an actor sees the end of its connection before it is killed.
  const gone = [...all].flatMap(([name, { closed }]) => (closed && !name.includes('.') ? [`${name} closed`] : []));
  return [...lines, ...gone];
}

class Player {
  readonly #daemon: Playable;
  readonly #dir: string;
  readonly #signal: AbortSignal | undefined;
  #right: readonly string[] | undefined;
  readonly #lines: string[] = [];
  readonly #connections = new Map<string, Connection>();
  readonly #closed = new Set<string>();
  /** Calls of each connection that are not answered. */
  readonly #calls = new Map<string, number>();
  readonly #actors = new Map<string, Actor>();
  readonly #variable: Variable;
  readonly #before: ReadonlySet<string>;
  #barrier: Peer | undefined;
  #descriptors: number | undefined;

  constructor(daemon: Playable, dir: string, { signal, right }: PlayOptions) {
    this.#daemon = daemon;
    this.#dir = dir;
    this.#signal = signal;
    this.#right = right;
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
      await this.#receiveAll();
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
    await this.#receiveAll();
  }

  async #send(step: Step & { do: 'send' }): Promise<void> {
    const connection = await this.#connection(step.on);
    const made = typeof step.bytes === 'function' ? step.bytes((actor) => this.#actor(actor).pid) : step.bytes;
    const bytes = Buffer.from(made);
    const extra = step.descriptors === undefined ? '' : ` (descriptors: ${step.descriptors})`;
    const lines = renderBytes(bytes, this.#variable);
    for (const line of lines) this.#say(`${step.on} > ${line}${extra}`);
    this.#calls.set(step.on, (this.#calls.get(step.on) ?? 0) + count(lines, 'CALL'));
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

  /** Lines of all that has come, by connection, and whether that is closed. Waits for the answers to calls for a while. */
  async #answers(): Promise<Map<string, Rendered>> {
    const all = new Map<string, Rendered>();
    const since = performance.now();
    for (let looks = 1; ; looks++) {
      let isComplete = true;
      for (const [name, connection] of this.#connections) {
        if (this.#closed.has(name)) continue;
        const before = all.get(name)?.bytes ?? Buffer.alloc(0);
        const { bytes, closed } = await connection.receive();
        const lines = renderBytes(Buffer.concat([before, bytes]), this.#variable);
        all.set(name, { bytes: Buffer.concat([before, bytes]), lines, closed });
        isComplete &&= closed || connection.lost || (this.#calls.get(name) ?? 0) <= count(lines, 'REPLY');
      }
      const waited = performance.now() - since;
      if (isComplete || this.#daemon.finished !== undefined) return all;
      if (waited > patient(ANSWER_MS) && looks >= LOOKS && this.#isRight(heard(all), waited, true)) return all;
      await setTimeout(1);
    }
  }

  async #receiveAll(): Promise<void> {
    await this.#passBarrier();
    const all = await this.#answers();
    for (const line of heard(all)) this.#say(line);
    for (const [name, { lines, closed }] of all) {
      this.#calls.set(name, (this.#calls.get(name) ?? 0) - count(lines, 'REPLY'));
      if (closed) this.#closed.add(name);
    }
    const end = this.#daemon.finished;
    if (end !== undefined) this.#say(`daemon ended: ${end.signal ?? `exit ${end.code ?? '?'}`}`);
  }

  async #look(): Promise<void> {
    await this.#passBarrier();
    const since = performance.now();
    let lines = this.#filesAndLocks();
    while (!this.#isRight(lines, performance.now() - since, false)) {
      await setTimeout(5);
      lines = this.#filesAndLocks();
    }
    this.#lines.push(...lines);
  }

  /**
   * Whether the transcript with these lines more is the beginning of the right one, and nothing more is to come in this step. True as well
   * when nobody knows what is right, and for ever once the right lines have been waited for in vain.
   */
  #isRight(more: readonly string[], waited: number, hears: boolean): boolean {
    if (this.#right === undefined) return true;
    const so = folded([...this.#lines, ...more.map((line) => masked(line, this.#variable))]);
    const next = this.#right[so.length] ?? '';
    // More lines may be folded into the last one later.
    const last = so.pop()?.replace(timesColumn, '');
    const right = this.#right.slice(0, so.length + 1);
    const isSo = right.pop()?.replace(timesColumn, '') === last && isDeepStrictEqual(so, right);
    if (isSo && !(hears && /^(\d+ times: )?\S+ (<|closed$)/.test(next))) return true;
    if (waited > patient(RIGHT_MS)) this.#right = undefined;
    return this.#right === undefined;
  }

  #filesAndLocks(): string[] {
    const tree = snapshot(this.#dir).slice(1);
    return [
      ...tree.map((line) => `tree: ${line.replace(ownerColumn, ' 0:0 ')}`),
      ...this.#locks().map((line) => `lock: ${line}`),
    ].map((line) => masked(line, this.#variable));
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
    await this.#receiveAll();
    return connection;
  }
}

/**
 * @param dir an empty directory
 * @returns the transcript: messages, replies, closed connections, and at the end the files and locks
 */
export async function play(
  daemon: Playable,
  exchange: Exchange,
  dir: string,
  options: PlayOptions = {},
): Promise<string[]> {
  return new Player(daemon, dir, options).play(exchange);
}
