/** Listens in the place of a daemon, and passes every connection on to it. */
import { chmodSync, chownSync, statSync, unlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import type { Decoded, Peer, Sink } from './events.ts';
import { Link } from './link.ts';
import { now, peerOf } from './peers.ts';
import { Ready, relay, type Watch } from './relay.ts';
import type { Decoder, Tap } from './tap.ts';

const { EAGAIN } = constants.errno;

/** The pause before another connect to a daemon whose backlog is full. */
const RETRY_MS = 10;

export interface Wiring {
  readonly decoder: Decoder;
  readonly tap: Tap;
  /** The number of the next connection. */
  nextConnection(): number;
}

export class Proxy {
  readonly path: string;
  private readonly upstream: string;
  private readonly wiring: Wiring;
  private readonly fd: number;
  private readonly watch: Watch;
  private readonly links = new Set<Link>();
  private onEmpty: () => void = () => undefined;
  private isListening = true;

  /** Listens at `path`, with owner and mode of the daemon's socket at `upstream`. */
  constructor(path: string, upstream: string, wiring: Wiring) {
    this.path = path;
    this.upstream = upstream;
    this.wiring = wiring;
    this.fd = relay().listen(Buffer.from(path).toString('latin1'));
    if (this.fd < 0) throw new Error(`cannot listen at ${path}: ${getSystemErrorMessage(this.fd)}`);
    try {
      const { uid, gid, mode } = statSync(upstream);
      if (uid !== process.geteuid?.() || gid !== process.getegid?.()) chownSync(path, uid, gid);
      chmodSync(path, mode & 0o777);
    } catch (error) {
      relay().close(this.fd);
      unlinkSync(path);
      throw new Error(`cannot listen for ${upstream}: ${(error as Error).message}`, { cause: error });
    }
    this.watch = relay().watch(this.fd, () => this.accept());
    relay().setEvents(this.watch, Ready.READABLE);
  }

  get connections(): number {
    return this.links.size;
  }

  /** Accepts no more connections. Leaves the socket's file. */
  stopListening(): void {
    if (!this.isListening) return;
    this.isListening = false;
    relay().unwatch(this.watch);
    relay().close(this.fd);
  }

  /** Resolves when no connection is left. */
  async drained(): Promise<void> {
    if (this.links.size > 0) await new Promise<void>((resolve) => (this.onEmpty = resolve));
  }

  /** Closes all connections. */
  close(): void {
    this.stopListening();
    for (const link of this.links) link.close();
  }

  private accept(): void {
    for (;;) {
      const fd = relay().accept(this.fd);
      // No more clients, no descriptors, or the client has closed.
      if (fd < 0) return;
      const id = this.wiring.nextConnection();
      const peer = peerOf(fd);
      this.wiring.tap.open(id, peer, now());
      this.connect(id, fd, peer);
    }
  }

  private connect(id: number, client: number, peer: Peer): void {
    const { tap, decoder } = this.wiring;
    const isPeer = new Int32Array(1);
    const daemon = relay().connectAs(Buffer.from(this.upstream).toString('latin1'), client, isPeer);
    if (daemon === -EAGAIN) {
      setTimeout(() => this.connect(id, client, peer), RETRY_MS);
      return;
    }
    if (daemon < 0) {
      tap.note(id, `the daemon cannot be reached at ${this.upstream}: ${getSystemErrorMessage(daemon)}`, now());
      relay().close(client);
      tap.close(id, now());
      return;
    }
    if (isPeer[0] === 0) {
      const [uid = -1, gid = -1] = [process.geteuid?.(), process.getegid?.()];
      const text = `the daemon sees uid ${uid} gid ${gid} of virtlockd-trace: only root can connect as another user`;
      tap.note(id, text, now());
    }
    const link: Link = new Link(id, { client, daemon }, peer, decoder, tap, () => {
      this.links.delete(link);
      if (this.links.size === 0) this.onEmpty();
    });
    this.links.add(link);
  }
}

/**
 * Passes events on, with a note after each REGISTER by which a process registers itself: the daemon compares the owner's pid
 * with its peer's, which is the proxy's.
 */
export function noteOwners(sink: Sink): Sink {
  return (event) => {
    sink(event);
    if (event.kind !== 'message' || event.peer.pid <= 0 || ownerPid(event.message) !== event.peer.pid) return;
    const { time, connection, peer } = event;
    const text = `the daemon sees pid ${process.pid} of virtlockd-trace as this peer: when the owner ends, it will not release its locks`;
    sink({ kind: 'note', time, connection, peer, text });
  };
}

function ownerPid({ form, name, payload }: Decoded): number | undefined {
  if (form !== 'call' || name !== 'lock.register') return undefined;
  const { owner } = payload as { owner?: { pid?: number } };
  return owner?.pid;
}
