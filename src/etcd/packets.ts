/** Messages in JSON over a socket that keeps them whole. Nothing here waits. */
import { constants } from 'node:os';
import { posix } from '../posix/posix.ts';
import type { Poller } from '../rpc/poller.ts';
import { MAX_MESSAGE } from './messages.ts';

const { EAGAIN, ENOBUFS, ENOMEM } = constants.errno;
const NO_ROOM: ReadonlySet<number> = new Set([-EAGAIN, -ENOBUFS, -ENOMEM]);
/** Until a message is sent again that found no room, in milliseconds. */
const AGAIN_MS = 5;
/** Messages that are read before others are served. */
const AT_ONCE = 32;

/** Made with the first socket: the daemon loads this also where no lockspace is kept in etcd. */
let buffer = Buffer.alloc(0);
const attached = new Int32Array(1);

export class Packets {
  private readonly socket: number;
  private readonly poller: Pick<Poller, 'watch' | 'unwatch'>;
  private readonly onMessage: (message: unknown) => void;
  private readonly onEnd: () => void;
  private readonly unsent: Buffer[] = [];
  private timer: NodeJS.Timeout | undefined;
  private isOver = false;

  /** @param onEnd called once, when the other process is gone */
  constructor(
    socket: number,
    poller: Pick<Poller, 'watch' | 'unwatch'>,
    onMessage: (message: unknown) => void,
    onEnd: () => void,
  ) {
    if (buffer.length === 0) buffer = Buffer.allocUnsafeSlow(MAX_MESSAGE + 1);
    this.socket = socket;
    this.poller = poller;
    this.onMessage = onMessage;
    this.onEnd = onEnd;
    this.watch();
  }

  /** @throws RangeError for a message that is too long */
  send(message: object): void {
    // Names are bytes as latin1 characters.
    const bytes = Buffer.from(JSON.stringify(message));
    if (bytes.length > MAX_MESSAGE) throw new RangeError(`a message of ${bytes.length} bytes`);
    this.unsent.push(bytes);
    if (this.unsent.length === 1) this.flush();
  }

  private flush(): void {
    for (let [first] = this.unsent; first !== undefined && !this.isOver; [first] = this.unsent) {
      const status = posix.sendPacket(this.socket, first, first.length);
      if (NO_ROOM.has(status)) {
        this.timer = setTimeout(() => {
          this.flush();
        }, AGAIN_MS);
        return;
      }
      this.unsent.shift();
      if (status < 0) {
        // Never at once: a caller does not expect the end before its call returns.
        this.timer = setTimeout(() => {
          this.end();
        }, 0);
        return;
      }
    }
  }

  private watch(): void {
    this.poller.watch(this.socket, () => {
      this.receive();
    });
  }

  private receive(): void {
    for (let left = AT_ONCE; left > 0 && !this.isOver; left--) {
      const size = posix.receivePacket(this.socket, buffer, attached);
      if (size === -EAGAIN) break;
      const [fd = -1] = attached;
      if (fd >= 0) posix.close(fd);
      if (size <= 0 || size > MAX_MESSAGE) {
        this.end();
        return;
      }
      this.onMessage(JSON.parse(buffer.toString('utf8', 0, size)));
    }
    if (!this.isOver) this.watch();
  }

  private end(): void {
    if (this.isOver) return;
    this.close();
    this.onEnd();
  }

  /** Ends the connection without a call of `onEnd`. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    clearTimeout(this.timer);
    this.poller.unwatch(this.socket);
    posix.close(this.socket);
  }
}
