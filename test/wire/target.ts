/** The daemon of one kind that a list of exchanges is played to, one after the other. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../lab/daemon.ts';
import { eventually } from '../lab/process.ts';
import type { DaemonKind, Generation } from '../lab/requirements.ts';
import { Lab } from '../lab/root.ts';
import { Peer, text, u32 } from '../lab/wire.ts';
import { play } from './play.ts';
import { type Exchange, admin } from './script.ts';

/** Client ids of both servers start here for a fresh exchange, however often the daemon was asked whether it is there. */
const firstId = 16n;

/** The highest client id that server has given. */
async function lastId(peer: Peer, server: string): Promise<bigint> {
  const { payload } = await peer.call(admin(8, text(server), u32(1), u32(0)));
  const size = text(server).length + 20;
  const count = payload.readUInt32BE(0);
  return count === 0 ? 0n : payload.readBigUInt64BE(4 + (count - 1) * size + text(server).length);
}

/** Uses up client ids until the next one is `firstId`. */
async function burnIds(daemon: LockDaemon): Promise<void> {
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

export class WireTarget {
  readonly #kind: DaemonKind;
  readonly #configuration: string;
  readonly #lab: Lab;
  #daemon: LockDaemon | undefined;
  #count = 0;

  private constructor(kind: DaemonKind, version: Generation, lab: Lab) {
    this.#kind = kind;
    this.#lab = lab;
    // The C daemons do not know the first key and take no offence.
    this.#configuration = `libvirt_version = "${version}"\n`;
  }

  /** @param version whose replies are wanted, which matters for this project's daemon */
  static async open(kind: DaemonKind, version: Generation): Promise<WireTarget> {
    return new WireTarget(kind, version, await Lab.open(kind === 'ours' ? '9.0.0' : kind));
  }

  /** @returns the transcript of one exchange */
  async play(exchange: Exchange): Promise<string[]> {
    const fresh = exchange.fresh === true;
    if (fresh) await this.#stop();
    const daemon = this.#daemon ?? (await this.#start(fresh));
    const dir = join(this.#lab.directory, `e${++this.#count}`);
    mkdirSync(dir, { mode: 0o755 });
    const target = {
      pid: daemon.pid,
      socket: daemon.socket,
      adminSocket: daemon.adminSocket,
      exited: daemon.process.exited,
      get finished() {
        return daemon.process.finished;
      },
    };
    try {
      return await play(target, exchange, dir);
    } catch (error) {
      await this.#stop();
      throw error;
    } finally {
      if (fresh || exchange.spoils === true || daemon.process.finished !== undefined) await this.#stop();
    }
  }

  async close(): Promise<void> {
    await this.#stop();
    await this.#lab.close();
  }

  async #start(fresh: boolean): Promise<LockDaemon> {
    const daemon = await startDaemon(this.#kind, { lab: this.#lab, configuration: this.#configuration });
    this.#daemon = daemon;
    // The C daemon takes connections a moment before it knows the admin program, and answers those that it was unknown for ever.
    if (this.#kind !== 'ours') {
      await eventually('the admin program is there', async () => {
        const peer = await daemon.connectAdmin();
        const reply = await peer.call(admin(3));
        peer.close();
        return reply.status === 0;
      });
    }
    if (fresh) await burnIds(daemon);
    return daemon;
  }

  async #stop(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }
}
