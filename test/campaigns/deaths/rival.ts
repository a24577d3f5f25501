/** A client of the daemon that asks for the disks of running guests, one after the other, and must be refused each time. */
import { setTimeout as pause } from 'node:timers/promises';
import { type Call, lock, type Peer, type WireError } from '../../../src/lab/wire.ts';
import { type Grant, now, type Problem } from './facts.ts';
import type { Host } from './host.ts';

/** How long a call may take, in ms: an acquire may wait 3 s for the end of an owner, and for the watchdog's interval. */
export const PATIENCE = 20_000;
const REST_MS = 5;
/** Above every possible pid, so that no process is ended when its connection ends. */
const NOBODY = 5_000_000;
/** The error code for a held resource. */
const BUSY = 87;

interface Waiting {
  readonly since: number;
  readonly resolve: (at: number) => void;
}

export class Rival {
  readonly grants: Grant[] = [];
  readonly problems: Problem[] = [];
  /** Connections that ended while a call was in progress, or before one. */
  closed = 0;
  answers = 0;
  readonly #host: Host;
  readonly #isHeld: (file: string) => boolean;
  readonly #files: readonly string[];
  /** A disk that it was granted and has not given back: nobody else would, for it is no process. */
  #granted: string | undefined;
  #isStopped = false;
  #loops: readonly Promise<void>[] = [];
  #waiting: Waiting[] = [];

  /** @param isHeld whether a guest must have the lock on a disk now */
  constructor(host: Host, files: readonly string[], isHeld: (file: string) => boolean) {
    this.#host = host;
    this.#files = files;
    this.#isHeld = isHeld;
  }

  start(): void {
    this.#isStopped = false;
    this.#loops = [
      this.#repeat(async (peer) => this.#askForAll(peer)),
      this.#repeat(async (peer) => this.#register(peer)),
    ];
  }

  /** When the first register call after `since` was answered. That call never waits for the end of an owner. */
  async answerSince(since: number): Promise<number> {
    return new Promise((resolve) => this.#waiting.push({ since, resolve }));
  }

  /** Closes its connections, and asks no more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#loops);
  }

  /** Repeats a step over one connection, and connects again when that ends. */
  async #repeat(step: (peer: Peer) => Promise<void>): Promise<void> {
    let peer: Peer | undefined;
    while (!this.#isStopped) {
      try {
        if (peer === undefined) {
          peer = await this.#host.connect();
          await this.#register(peer);
        }
        await step(peer);
      } catch {
        this.closed++;
        peer?.close();
        peer = undefined;
      }
      await pause(REST_MS);
    }
    peer?.close();
  }

  async #register(peer: Peer): Promise<void> {
    const from = now();
    await this.#call(peer, lock.register({ pid: NOBODY, name: 'rival' }));
    const at = now();
    const isAnswered = ({ since }: Waiting): boolean => since <= from;
    for (const { resolve } of this.#waiting.filter(isAnswered)) resolve(at);
    this.#waiting = this.#waiting.filter((one) => !isAnswered(one));
  }

  async #askForAll(peer: Peer): Promise<void> {
    // Of a connection that ended meanwhile. The daemon may have done it, and died before it said so.
    await this.#giveBack(peer);
    for (const file of this.#files) {
      if (!this.#isHeld(file)) continue;
      const from = now();
      const error = await this.#call(peer, lock.acquire('', file));
      const to = now();
      if (error === undefined) {
        this.grants.push({ file, from, to });
        this.#granted = file;
        await this.#giveBack(peer);
      } else if (error.code !== BUSY) {
        this.problems.push({ at: to, kind: 'refused otherwise', detail: `${error.code}: ${error.message ?? ''}` });
      }
    }
  }

  async #giveBack(peer: Peer): Promise<void> {
    if (this.#granted === undefined) return;
    await this.#call(peer, lock.release('', this.#granted));
    this.#granted = undefined;
  }

  /** @throws Error when the connection ends */
  async #call(peer: Peer, call: Call): Promise<WireError | undefined> {
    const timer = setTimeout(() => {
      this.problems.push({ at: now(), kind: 'call hangs', detail: `no answer and no end within ${PATIENCE / 1000} s` });
      peer.close();
    }, PATIENCE);
    try {
      const error = await peer.ask(call);
      this.answers++;
      return error;
    } finally {
      clearTimeout(timer);
    }
  }
}
