/** What a written check works with: the daemon, others like it, and connections whose messages end up in the report. */
import { Skipped } from './check.ts';
import { masked, renderMessage, type Variable } from './exchange/transcript.ts';
import type { Playable } from './exchange/play.ts';
import type { Generation } from '../../lab/generation.ts';
import type { Daemon, StartOptions } from '../../lab/daemon.ts';
import type { Place } from '../../lab/place.ts';
import { type Call, decodeError, Peer, type WireError, type Message } from '../../lab/wire.ts';
import type { Subject } from './subject.ts';

/** A connection that notes what it sends and gets. */
export class NotedPeer {
  /** For what is not a call: raw bytes, waiting for the end. These are not noted. */
  readonly peer: Peer;
  readonly #name: string;
  readonly #context: CheckContext;
  #serial = 0;

  constructor(peer: Peer, name: string, context: CheckContext) {
    this.peer = peer;
    this.#name = name;
    this.#context = context;
  }

  /** Sends a call and waits for the reply. @throws Error when the connection ends first */
  async call(request: Call): Promise<Message> {
    const message = { program: 0x0ea7beef, version: 1, type: 0, status: 0, serial: ++this.#serial, ...request };
    this.#context.note(`${this.#name} > ${this.#context.render(message)}`);
    const reply = await this.peer.exchange(message);
    this.#context.note(`${this.#name} < ${this.#context.render(reply)}`);
    return reply;
  }

  /** As call. @returns the daemon's error, or undefined for success */
  async ask(request: Call): Promise<WireError | undefined> {
    const reply = await this.call(request);
    return reply.status === 0 ? undefined : decodeError(reply.payload);
  }

  /** As call. @throws Error with the daemon's message when it refuses */
  async must(request: Call): Promise<Message> {
    const reply = await this.call(request);
    if (reply.status !== 0)
      throw new Error(`the daemon refused: ${decodeError(reply.payload).message ?? 'no message'}`);
    return reply;
  }

  close(): void {
    this.#context.note(`${this.#name} closes`);
    this.peer.close();
  }
}

export class CheckContext {
  /** The recorded generation that the daemon is judged by. */
  readonly generation: Generation;
  readonly subject: Subject;
  /** Aborted when the check has taken too long. */
  readonly signal: AbortSignal;
  /** What goes into the report as the exchange. */
  readonly notes: string[] = [];
  readonly #variable: Variable & { dir: string };
  readonly #cleanup: (() => unknown)[] = [];
  #connections = 0;

  constructor(subject: Subject, generation: Generation, signal: AbortSignal) {
    this.subject = subject;
    this.generation = generation;
    this.signal = signal;
    this.#variable = { dir: '\0', own: process.pid, actors: new Map() };
  }

  /** Where daemons are started. @throws Skipped for somebody else's daemon */
  get place(): Place {
    if (this.subject.place === undefined) throw new Skipped(this.subject.foreign);
    return this.subject.place;
  }

  /** The path of the program that is started. @throws Skipped for somebody else's daemon */
  get program(): string {
    if (this.subject.program === undefined) throw new Skipped(this.subject.foreign);
    return this.subject.program;
  }

  /** A directory of this check's own; notes call it `@`. */
  directory(): string {
    if (this.#variable.dir === '\0') this.#variable.dir = this.subject.newDirectory();
    return this.#variable.dir;
  }

  /** The daemon in use. */
  async daemon(): Promise<Playable> {
    return this.subject.daemon();
  }

  /** A daemon for this check alone, with its own arguments and configuration. @throws Skipped for somebody else's daemon */
  async start(options: StartOptions = {}): Promise<Daemon> {
    const daemon = await this.subject.start(options);
    this.after(() => this.subject.kill());
    return daemon;
  }

  /** Connects to a socket, by default the lock socket of the daemon in use; the connection is closed after the check. */
  async connect(path?: string): Promise<NotedPeer> {
    const peer = await Peer.connect(path ?? (await this.daemon()).socket);
    this.after(() => {
      peer.close();
    });
    return new NotedPeer(peer, String.fromCharCode(97 + this.#connections++), this);
  }

  async connectAdmin(): Promise<NotedPeer> {
    const peer = await Peer.connect((await this.daemon()).adminSocket);
    this.after(() => {
      peer.close();
    });
    return new NotedPeer(peer, 'admin', this);
  }

  /** Writes a line into the report. What varies from run to run should be left out. */
  note(line: string): void {
    this.notes.push(masked(line, this.#variable));
  }

  render(message: Message): string {
    return renderMessage(message, this.#variable);
  }

  /** Does this when the check is over, however it ended; the last one first. */
  after(task: () => unknown): void {
    this.#cleanup.push(task);
  }

  async cleanUp(): Promise<void> {
    for (const task of this.#cleanup.reverse()) await task();
  }
}
