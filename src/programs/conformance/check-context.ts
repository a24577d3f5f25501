/** The surroundings of a written check: the daemon, others like it, and connections whose messages the report shows. */
import { Skipped } from './check.ts';
import { masked, renderMessage, type Variable } from './exchange/transcript.ts';
import type { Playable } from './exchange/play.ts';
import type { Generation } from '../../lab/generation.ts';
import type { Daemon, StartOptions } from '../../lab/daemon.ts';
import type { Place } from '../../lab/place.ts';
import { type Call, Caller, lockProgram, type Message, Peer } from '../../lab/wire.ts';
import type { Subject } from './subject.ts';

/** A connection that notes its calls and their replies. */
export class NotedPeer extends Caller {
  /** For raw bytes, waiting for the end, and calls that are not to be noted. */
  readonly peer: Peer;
  readonly #name: string;
  readonly #context: CheckContext;
  #serial = 0;

  constructor(peer: Peer, name: string, context: CheckContext) {
    super();
    this.peer = peer;
    this.#name = name;
    this.#context = context;
  }

  async call(request: Call): Promise<Message> {
    const message = { program: lockProgram, version: 1, type: 0, status: 0, serial: ++this.#serial, ...request };
    this.#context.note(`${this.#name} > ${this.#context.render(message)}`);
    const reply = await this.peer.exchange(message);
    this.#context.note(`${this.#name} < ${this.#context.render(reply)}`);
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
  /** The exchange, for the report. */
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

  /** Where daemons are started. @throws Skipped for a daemon that runs already */
  get place(): Place {
    if (this.subject.place === undefined) throw new Skipped(this.subject.foreign);
    return this.subject.place;
  }

  /** The path of the program that is started. @throws Skipped for a daemon that runs already */
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

  /** A daemon for this check alone, with its own arguments and configuration. @throws Skipped for a daemon that runs already */
  async start(options: StartOptions = {}): Promise<Daemon> {
    const daemon = await this.subject.start(options);
    this.after(() => this.subject.kill());
    return daemon;
  }

  /** Connects to a socket, by default the lock socket of the daemon in use; the connection is closed after the check. */
  async connect(path?: string): Promise<NotedPeer> {
    return this.#open(path ?? (await this.daemon()).socket, String.fromCharCode(97 + this.#connections++));
  }

  async connectAdmin(): Promise<NotedPeer> {
    return this.#open((await this.daemon()).adminSocket, 'admin');
  }

  async #open(path: string, name: string): Promise<NotedPeer> {
    const peer = await Peer.connect(path);
    this.after(() => {
      peer.close();
    });
    return new NotedPeer(peer, name, this);
  }

  /** Writes a line into the report. It should not differ from run to run. */
  note(line: string): void {
    this.notes.push(masked(line, this.#variable));
  }

  render(message: Message): string {
    return renderMessage(message, this.#variable);
  }

  /** Adds a task for the end of the check, however it ends; the last one is done first. */
  after(task: () => unknown): void {
    this.#cleanup.push(task);
  }

  async cleanUp(): Promise<void> {
    for (const task of this.#cleanup.reverse()) await task();
  }
}
