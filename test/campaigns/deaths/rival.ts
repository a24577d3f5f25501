/** A client of the daemon that asks for the disks of running guests, one after the other, and must be refused each time. */
import { setTimeout as pause } from 'node:timers/promises';
import { lock, type Peer } from '../../../src/lab/wire.ts';
import { type Grant, now, type Problem } from './facts.ts';
import type { Host } from './host.ts';

/** For whatever is asked, in ms: 3 s may pass until the owner of what is asked for has ended, and a watchdog takes its time. */
export const PATIENCE = 20_000;
const REST_MS = 10;
/** Above every pid there can be, so that the end of its connection is nobody's end. */
const NOBODY = 5_000_000;
/** The resource is held. */
const BUSY = 87;

export class Rival {
  readonly grants: Grant[] = [];
  readonly problems: Problem[] = [];
  /** Connections that ended while a call was in progress, or before one. */
  closed = 0;
  answers = 0;
  readonly #host: Host;
  readonly #files: () => readonly string[];
  #isStopped = false;
  #peer: Peer | undefined;
  #run: Promise<void> = Promise.resolve();
  #onAnswer: ((at: number) => void)[] = [];

  /** @param files the disks that are held now */
  constructor(host: Host, files: () => readonly string[]) {
    this.#host = host;
    this.#files = files;
  }

  start(): void {
    this.#run = this.#ask();
  }

  /** When the daemon answers next. */
  async nextAnswer(): Promise<number> {
    return new Promise((resolve) => this.#onAnswer.push(resolve));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#run;
    this.#peer?.close();
  }

  async #ask(): Promise<void> {
    while (!this.#isStopped) {
      try {
        for (const file of this.#files()) await this.#askFor(file);
        if (this.#files().length === 0) await this.#registered();
      } catch {
        this.closed++;
        this.#peer?.close();
        this.#peer = undefined;
      }
      await pause(REST_MS);
    }
  }

  async #askFor(file: string): Promise<void> {
    const peer = await this.#registered();
    const from = now();
    const error = await this.#timely(peer, peer.ask(lock.acquire('', file)));
    const to = now();
    this.#answered(to);
    if (error === undefined) {
      this.grants.push({ file, from, to });
      await this.#timely(peer, peer.ask(lock.release('', file)));
    } else if (error.code !== BUSY) {
      this.problems.push({ at: to, kind: 'refused otherwise', detail: `${error.code}: ${error.message ?? ''}` });
    }
  }

  async #registered(): Promise<Peer> {
    if (this.#peer !== undefined) return this.#peer;
    const peer = await this.#host.connect();
    this.#peer = peer;
    await this.#timely(peer, peer.must(lock.register({ pid: NOBODY, name: 'rival' })));
    this.#answered(now());
    return peer;
  }

  /** @throws Error when the connection ends */
  async #timely<T>(peer: Peer, answer: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.problems.push({ at: now(), kind: 'call hangs', detail: `no answer and no end within ${PATIENCE / 1000} s` });
      peer.close();
    }, PATIENCE);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  #answered(at: number): void {
    this.answers++;
    for (const resolve of this.#onAnswer.splice(0)) resolve(at);
  }
}
