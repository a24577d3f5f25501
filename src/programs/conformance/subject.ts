/** The daemon under check, for one check after the other: started when first needed, and again after its end. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { play, type Playable, type PlayOptions } from './exchange/play.ts';
import { admin, type Exchange } from './exchange/script.ts';
import { Daemon, type StartOptions } from '../../lab/daemon.ts';
import type { Place } from '../../lab/place.ts';
import { eventually } from '../../lab/process.ts';
import { type Peer, text, u32 } from '../../lab/wire.ts';

/** The first client id of both servers in a fresh exchange. Connections before it, which wait for the start, use up ids. */
const firstId = 16n;

/** The highest id among a server's clients. */
async function lastId(peer: Peer, server: string): Promise<bigint> {
  const { payload } = await peer.call(admin(8, text(server), u32(1), u32(0)));
  const size = text(server).length + 20;
  const count = payload.readUInt32BE(0);
  return count === 0 ? 0n : payload.readBigUInt64BE(4 + (count - 1) * size + text(server).length);
}

/** Uses up client ids until the next one is `firstId`. */
async function burnIds(daemon: Daemon): Promise<void> {
  const control = await daemon.connectAdmin();
  for (const [server, connect] of [
    ['virtlockd', () => daemon.connect()],
    ['admin', () => daemon.connectAdmin()],
  ] as const) {
    let id = await lastId(control, server);
    while (id < firstId - 1n) {
      const before = id;
      const peer = await connect();
      id = await eventually('the daemon has accepted', async () => {
        const last = await lastId(control, server);
        return last > before && last;
      });
      peer.close();
      await eventually('the daemon has closed', async () => (await lastId(control, server)) !== id);
    }
  }
  control.close();
}

export interface Subject {
  /** Why this daemon must not be stopped, restarted or changed; undefined when it may. */
  readonly foreign: string | undefined;
  /** The path of its program; undefined for a daemon that runs already. */
  readonly program: string | undefined;
  /** Its process is unknown, and so are its locks and descriptors. */
  readonly blind?: boolean;
  /** Where its daemons run; undefined for a daemon that runs already. */
  readonly place: Place | undefined;
  /** The daemon in use, which is started if there is none. */
  daemon(): Promise<Playable>;
  /** A daemon for one check alone; the one in use is stopped first, because both have the same paths. */
  start(options?: StartOptions): Promise<Daemon>;
  /** A new empty directory, mode 0755, that the daemon sees at the same path. */
  newDirectory(): string;
  /** Plays one exchange and returns its transcript. */
  play(exchange: Exchange, options?: PlayOptions): Promise<string[]>;
  /** Kills the daemon in use. */
  kill(): Promise<void>;
  close(): Promise<void>;
}

/** A daemon that this program starts. */
export class StartedSubject implements Subject {
  readonly foreign = undefined;
  readonly place: Place;
  readonly #command: readonly string[];
  readonly #configuration: string | undefined;
  #daemon: Daemon | undefined;
  #count = 0;

  /** @param configuration the beginning of every virtlockd.conf; the place is closed together with the subject */
  constructor(place: Place, command: readonly string[], configuration?: string) {
    this.place = place;
    this.#command = command;
    this.#configuration = configuration;
  }

  get program(): string {
    return this.#command[0] ?? '';
  }

  async daemon(): Promise<Daemon> {
    return this.#daemon ?? (await this.start());
  }

  async start(options: StartOptions = {}): Promise<Daemon> {
    await this.#stop();
    // Always given, so that it replaces the configuration of an earlier check.
    const configuration = `${this.#configuration ?? ''}${options.configuration ?? ''}`;
    const daemon = Daemon.launch(this.place, this.#command, { ...options, configuration });
    await daemon.accepts(this.program);
    this.#daemon = daemon;
    // The C daemon accepts a moment before it knows the admin program. On such a connection it never learns it.
    await eventually('the admin program is there', async () => {
      const peer = await daemon.connectAdmin();
      const reply = await peer.call(admin(3));
      peer.close();
      return reply.status === 0;
    });
    return daemon;
  }

  newDirectory(): string {
    // Always of one length: where an exchange sends bytes as they are, the recording shows the length of a path.
    const dir = join(this.place.directory, `e${String(++this.#count).padStart(3, '0')}`);
    mkdirSync(dir, { mode: 0o755 });
    return dir;
  }

  async play(exchange: Exchange, options?: PlayOptions): Promise<string[]> {
    const fresh = exchange.fresh === true;
    const daemon = fresh ? await this.start() : await this.daemon();
    if (fresh) await burnIds(daemon);
    try {
      return await play(daemon, exchange, this.newDirectory(), options);
    } catch (error) {
      await this.#stop();
      throw error;
    } finally {
      if (fresh || exchange.spoils === true || daemon.finished !== undefined) await this.#stop();
    }
  }

  async kill(): Promise<void> {
    await this.#daemon?.stop('SIGKILL');
    this.#daemon = undefined;
  }

  async close(): Promise<void> {
    await this.#stop();
    await this.place.close();
  }

  async #stop(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }
}
