/** The interface between sources of traces (a proxy, a file) and their listeners (a decoder, a file). */
import { Conversation } from './conversation.ts';
import type { Peer, Side, Sink, Stamp } from './events.ts';

export interface Tap {
  /** The source numbers connections. */
  open(connection: number, peer: Peer, time: Stamp): void;
  /** Bytes from a side. The peer may change, as a process may become another program. */
  data(connection: number, from: Side, bytes: Buffer, peer: Peer, time: Stamp): void;
  /** Descriptors that came with bytes. */
  descriptors(connection: number, from: Side, count: number, time: Stamp): void;
  /** A side sends no more. */
  end(connection: number, from: Side, time: Stamp): void;
  close(connection: number, time: Stamp): void;
  note(connection: number, text: string, time: Stamp): void;
}

export class Decoder implements Tap {
  private readonly sink: Sink;
  private readonly conversations = new Map<number, Conversation>();

  constructor(sink: Sink) {
    this.sink = sink;
  }

  /** See {@link MessageStream.wanted}. */
  wanted(connection: number, from: Side): number {
    return this.conversations.get(connection)?.wanted(from) ?? Infinity;
  }

  open(connection: number, peer: Peer, time: Stamp): void {
    const conversation = new Conversation(connection, peer, this.sink);
    this.conversations.set(connection, conversation);
    conversation.open(time);
  }

  data(connection: number, from: Side, bytes: Buffer, peer: Peer, time: Stamp): void {
    const conversation = this.conversations.get(connection);
    if (conversation === undefined) return;
    conversation.peer = peer;
    conversation.push(from, bytes, time);
  }

  descriptors(connection: number, from: Side, count: number, time: Stamp): void {
    this.conversations.get(connection)?.descriptors(from, count, time);
  }

  end(connection: number, from: Side, time: Stamp): void {
    this.conversations.get(connection)?.end(from, time);
  }

  close(connection: number, time: Stamp): void {
    this.conversations.get(connection)?.close(time);
    this.conversations.delete(connection);
  }

  note(connection: number, text: string, time: Stamp): void {
    this.conversations.get(connection)?.note(time, text);
  }
}

/** Passes everything on to several taps. */
export function tee(taps: readonly Tap[]): Tap {
  return {
    open: (...args) => {
      for (const tap of taps) tap.open(...args);
    },
    data: (...args) => {
      for (const tap of taps) tap.data(...args);
    },
    descriptors: (...args) => {
      for (const tap of taps) tap.descriptors(...args);
    },
    end: (...args) => {
      for (const tap of taps) tap.end(...args);
    },
    close: (...args) => {
      for (const tap of taps) tap.close(...args);
    },
    note: (...args) => {
      for (const tap of taps) tap.note(...args);
    },
  };
}
