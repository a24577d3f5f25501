/** One connection through the proxy. It passes bytes between two sockets unchanged. */
import { constants } from 'node:os';
import { otherSide, type Peer, type Side } from './events.ts';
import { now, programOf } from './peers.ts';
import { DESCRIPTOR_WORDS, Ready, relay, type Watch } from './relay.ts';
import type { Decoder, Tap } from './tap.ts';

const { EAGAIN } = constants.errno;

/** With this many unsent bytes of a side, the proxy stops reading from it. */
const MAX_HELD = 256 * 1024;
/** The most reads from one socket in one turn. */
const MAX_READS = 64;

const input = Buffer.allocUnsafeSlow(64 * 1024);
const incoming = new Int32Array(DESCRIPTOR_WORDS);
const NO_DESCRIPTORS = new Int32Array(1);

interface Chunk {
  readonly bytes: Buffer;
  sent: number;
  /** In relay's form. Closed once they are sent. */
  descriptors: Int32Array;
}

interface Flow {
  readonly queue: Chunk[];
  held: number;
  /** The source sends no more. */
  hasEnded: boolean;
  /** The end was passed on. */
  isShut: boolean;
  /** The destination has closed. */
  isDead: boolean;
}

const newFlow = (): Flow => ({ queue: [], held: 0, hasEnded: false, isShut: false, isDead: false });

export class Link {
  readonly id: number;
  private readonly fds: Readonly<Record<Side, number>>;
  private readonly watches: Readonly<Record<Side, Watch>>;
  /** By source. */
  private readonly flows: Readonly<Record<Side, Flow>> = { client: newFlow(), daemon: newFlow() };
  private readonly peer: Peer;
  private readonly decoder: Decoder;
  private readonly tap: Tap;
  private readonly onClosed: () => void;
  private isClosed = false;

  /** Takes over both descriptors. All traffic goes to the tap; the decoder is one of its listeners. */
  constructor(
    id: number,
    fds: Readonly<Record<Side, number>>,
    peer: Peer,
    decoder: Decoder,
    tap: Tap,
    onClosed: () => void,
  ) {
    this.id = id;
    this.fds = fds;
    this.peer = peer;
    this.decoder = decoder;
    this.tap = tap;
    this.onClosed = onClosed;
    const watch = (side: Side): Watch => relay().watch(fds[side], (events) => this.onEvents(side, events));
    this.watches = { client: watch('client'), daemon: watch('daemon') };
    this.adjust();
  }

  /** Closes both sides. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const side of ['client', 'daemon'] as const) {
      relay().unwatch(this.watches[side]);
      for (const chunk of this.flows[side].queue) closeDescriptors(chunk);
      relay().close(this.fds[side]);
    }
    this.tap.close(this.id, now());
    this.onClosed();
  }

  private onEvents(side: Side, events: number): void {
    if (this.isClosed) return;
    if ((events & Ready.WRITABLE) !== 0) this.drain(otherSide(side));
    if ((events & Ready.READABLE) !== 0) this.read(side);
    this.passEnds();
  }

  private read(from: Side): void {
    const flow = this.flows[from];
    for (let reads = 0; reads < MAX_READS && this.mayRead(from); reads++) {
      // Never past the end of a message: a descriptor must be sent with the byte that it came with, and one on the first byte
      // after a message would appear to belong to that message.
      const most = Math.min(this.decoder.wanted(this.id, from), input.length);
      const got = relay().receive(this.fds[from], input, most, incoming);
      if (got === -EAGAIN) return;
      if (got <= 0) {
        flow.hasEnded = true;
        this.tap.end(this.id, from, now());
        return;
      }
      const time = now();
      const bytes = Buffer.from(input.subarray(0, got));
      const [count = 0] = incoming;
      flow.queue.push({ bytes, sent: 0, descriptors: count === 0 ? NO_DESCRIPTORS : incoming.slice(0, 1 + count) });
      flow.held += got;
      this.drain(from);
      if (count > 0) this.tap.descriptors(this.id, from, count, time);
      const peer = { ...this.peer, program: programOf(this.peer.pid) || this.peer.program };
      this.tap.data(this.id, from, bytes, peer, time);
    }
  }

  /** Sends queued bytes of a side, as many as the other side accepts. */
  private drain(from: Side): void {
    const flow = this.flows[from];
    for (let chunk = flow.queue[0]; chunk !== undefined; chunk = flow.queue[0]) {
      if (!flow.isDead) {
        const { bytes, sent, descriptors } = chunk;
        const took = relay().send(this.fds[otherSide(from)], bytes, sent, bytes.length, descriptors);
        if (took === -EAGAIN) return;
        if (took < 0) {
          flow.isDead = true;
        } else {
          closeDescriptors(chunk);
          chunk.sent += took;
          flow.held -= took;
          if (chunk.sent < bytes.length) continue;
        }
      }
      closeDescriptors(chunk);
      flow.queue.shift();
    }
    if (flow.isDead) flow.held = 0;
  }

  /** Passes on ends, and closes when both directions have ended. */
  private passEnds(): void {
    for (const from of ['client', 'daemon'] as const) {
      const flow = this.flows[from];
      if (!flow.hasEnded || flow.queue.length > 0) continue;
      if (!flow.isShut) {
        flow.isShut = true;
        relay().endWriting(this.fds[otherSide(from)]);
      }
      // A side that has closed, not only shut down, takes no answers either: the other side must see that.
      if (this.flows[otherSide(from)].isShut || relay().isGone(this.fds[from])) {
        this.close();
        return;
      }
    }
    this.adjust();
  }

  private mayRead(from: Side): boolean {
    const { hasEnded, isDead, held } = this.flows[from];
    return !hasEnded && !isDead && held < MAX_HELD;
  }

  private adjust(): void {
    for (const side of ['client', 'daemon'] as const) {
      const isWaited = this.flows[otherSide(side)].queue.length > 0;
      const events = (this.mayRead(side) ? Ready.READABLE : 0) | (isWaited ? Ready.WRITABLE : 0);
      relay().setEvents(this.watches[side], events);
    }
  }
}

function closeDescriptors(chunk: Chunk): void {
  const [count = 0] = chunk.descriptors;
  for (const fd of chunk.descriptors.subarray(1, 1 + count)) relay().close(fd);
  chunk.descriptors = NO_DESCRIPTORS;
}
