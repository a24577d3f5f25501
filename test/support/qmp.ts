/** A second monitor of a guest's QEMU, beside libvirt's. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { now } from './lock-watch.ts';

interface Message {
  readonly event?: string;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
  readonly data?: { readonly status?: string };
  readonly return?: { readonly running?: boolean };
}

/** Of a source: libvirt has QEMU report migrations to all monitors. */
export type QmpEvent = 'STOP' | 'RESUME' | 'MIGRATION active' | 'MIGRATION completed';

/** While its CPUs ran. CLOCK_REALTIME in ms. */
interface Run {
  from: number;
  to: number;
}

export class Qmp {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** @throws Error when nobody listens there */
  static async connect(path: string): Promise<Qmp> {
    const socket = createConnection(path);
    await once(socket, 'connect');
    return new Qmp(socket);
  }

  /**
   * Until QEMU ends, or the signal.
   *
   * @param onEvent called at each event, with its status if it has one
   * @param onFollowed called once it is known whether the guest runs
   */
  async followRuns(
    over: AbortSignal,
    onEvent: (event: string) => void = () => undefined,
    onFollowed: () => void = () => undefined,
  ): Promise<Run[]> {
    const socket = this.#socket;
    const runs: Run[] = [];
    let current: Run | undefined;
    const begin = (at: number): void => {
      if (current === undefined) runs.push((current = { from: at, to: Infinity }));
    };
    const end = (at: number): void => {
      if (current !== undefined) current.to = at;
      current = undefined;
    };
    const lines = createInterface(socket);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    // A QEMU that is killed resets the connection; its end is what counts. The interface passes its socket's errors on.
    for (const emitter of [socket, lines]) emitter.on('error', () => undefined);
    lines.on('line', (line) => {
      const message = JSON.parse(line) as Message;
      const { seconds, microseconds } = message.timestamp ?? { seconds: 0, microseconds: 0 };
      const at = seconds * 1000 + microseconds / 1000;
      if (message.event === 'RESUME') begin(at);
      if (message.event === 'STOP') end(at);
      if (message.event !== undefined) onEvent([message.event, message.data?.status ?? ''].join(' ').trim());
      if (message.return?.running === true) begin(now());
      if (message.return?.running !== undefined) onFollowed();
    });
    for (const execute of ['qmp_capabilities', 'query-status']) socket.write(`${JSON.stringify({ execute })}\n`);
    const close = (): void => {
      socket.destroy();
    };
    over.addEventListener('abort', close);
    if (over.aborted) close();
    await ended;
    over.removeEventListener('abort', close);
    end(now());
    return runs;
  }
}
