/** A lock daemon, an owner that holds two locks through it, and a rival that asks the kernel for them. Writes facts. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlessGone } from '../../../../src/proc/processes.ts';
import { eventually, programImage, Running } from '../../../../src/lab/process.ts';
import { autocreate, lock, type Peer } from '../../../../src/lab/wire.ts';
import type { Fact } from '../facts.ts';

/** Emulation makes everything some twenty times slower. */
export const PATIENCE = 120_000;
/** The longest text of a fact. */
const MAX_TEXT = 4000;
/** Above every pid. */
const HOLDER = 5_000_000;

export interface Place {
  /** For disks and leases, at the same path for the daemon. */
  readonly directory: string;
  connect(): Promise<Peer>;
  /** The program that a daemon runs. */
  programOf(pid: number): string;
  write(fact: Fact): void;
}

/** The devices and inodes of files that a process has locked, of either kind of lock, sorted. */
function lockedInodesOf(pid: number): string[] {
  const found = new Set<string>();
  for (const name of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = unlessGone(() => readFileSync(`/proc/${pid}/fdinfo/${name}`, 'latin1')) ?? '';
    for (const line of text.split('\n')) {
      const [word, , kind, , , , file = ''] = line.split(/\s+/);
      if (word === 'lock:' && (kind === 'POSIX' || kind === 'OFDLCK')) found.add(file);
    }
  }
  return [...found].sort();
}

export class Scene {
  readonly disk: string;
  readonly #place: Place;
  readonly #leases: string;
  #step = '';
  #holder: Peer | undefined;
  #held: readonly string[] = [];
  #rival: Running | undefined;

  constructor(place: Place) {
    this.#place = place;
    this.disk = join(place.directory, 'image');
    this.#leases = join(place.directory, 'leases');
  }

  /** Plays steps by their names, the rival asking after the first one. Reports what breaks them off. */
  async play(
    steps: Readonly<Record<string, () => Promise<void>>>,
    rival: readonly string[],
    kernel: string,
  ): Promise<void> {
    try {
      for (const [name, step] of Object.entries(steps)) {
        this.#step = name;
        this.#place.write({ is: 'begun', step: name });
        await step();
        if (this.#rival === undefined) await this.#startRival(rival);
      }
      const asked = await this.#endRival();
      this.#place.write({ is: 'done', kernel, asked });
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : 'no error';
      this.#place.write({ is: 'broken', step: this.#step, error: text });
    } finally {
      await this.#rival?.stop('SIGKILL');
      this.#holder?.close();
    }
  }

  check(what: string, ok: boolean, detail: unknown = ''): void {
    this.#place.write({ is: 'checked', step: this.#step, what, ok, detail: String(detail).slice(-MAX_TEXT) });
  }

  say(text: string): void {
    this.#place.write({ is: 'said', step: this.#step, text: text.slice(-MAX_TEXT) });
  }

  /** The owner takes a lock on the disk, and one on a lease. */
  async hold(pid: number): Promise<void> {
    this.#holder = await this.#place.connect();
    await this.#holder.must(lock.register({ pid: HOLDER, name: 'stand-in' }));
    writeFileSync(this.disk, '');
    await this.#holder.must(lock.acquire('', this.disk));
    await this.#holder.must(lock.createLockspace(this.#leases));
    await this.#holder.must(lock.acquire(this.#leases, 'lease', autocreate));
    this.#held = lockedInodesOf(pid);
    this.check('it has the two locks and its pid file', this.#held.length === 3, this.#held.join());
  }

  /** The daemon runs that program, has every lock, serves the owner, and refuses others. */
  async assertServes(pid: number, program: string): Promise<void> {
    const runs = this.#place.programOf(pid);
    this.check(`it runs ${program}`, runs === program, runs);
    const now = lockedInodesOf(pid);
    this.check('it has every lock', now.join() === this.#held.join(), `${now.join()} for ${this.#held.join()}`);
    const other = join(this.#place.directory, 'other');
    writeFileSync(other, '');
    await this.#holder?.must(lock.acquire('', other));
    await this.#holder?.must(lock.release('', other));
    const stranger = await this.#place.connect();
    await stranger.must(lock.register({ pid: HOLDER + 1, name: 'other' }));
    const refusal = await stranger.ask(lock.acquire('', this.disk));
    this.check('another owner is refused', refusal?.code === 87, refusal?.message);
    stranger.close();
  }

  /** Sends SIGUSR1, and waits until a newcomer gets an answer of the new program. */
  async reexecute(pid: number): Promise<void> {
    const before = programImage(pid);
    const begun = performance.now();
    process.kill(pid, 'SIGUSR1');
    await eventually('it has executed a program', () => programImage(pid) !== before, PATIENCE);
    this.say(`it has executed a program after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    const peer = await eventually('it serves', async () => this.#place.connect(), PATIENCE);
    await peer.must(lock.register({ pid: HOLDER + 2, name: 'newcomer' }));
    peer.close();
  }

  /** @param words of the command; the files follow */
  async #startRival(words: readonly string[]): Promise<void> {
    const env = { PATH: '/usr/bin:/bin', LC_ALL: 'C' };
    const rival = Running.start([...words, 'look', this.disk, join(this.#leases, 'lease')], { env }, {});
    this.#rival = rival;
    await eventually('the rival asks', () => rival.output !== '', PATIENCE);
  }

  /** Reports locks that were free. Returns how often the kernel was asked. */
  async #endRival(): Promise<number> {
    const lines = ((await this.#rival?.stop('SIGTERM', PATIENCE))?.stdout ?? '').trim().split('\n');
    let asked = 0;
    for (const line of lines) {
      const found = JSON.parse(line) as { file?: string; ms?: number; asked?: number };
      if (found.file !== undefined) this.#place.write({ is: 'free', file: found.file, ms: found.ms ?? 0 });
      asked = found.asked ?? asked;
    }
    return asked;
  }
}
