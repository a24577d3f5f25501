/** What sources of traces (a proxy, a file) tell, and what listens to it (a decoder, a file). */
import { Conversation } from './conversation.ts';
import type { Peer, Side, Sink, Stamp } from './events.ts';

export interface Tap {
  /** Connections are numbered by the source. */
  open(connection: number, peer: Peer, time: Stamp): void;
  /** Bytes that a side sent. The peer is told every time, as a process may become another program. */
  data(connection: number, from: Side, bytes: Buffer, peer: Peer, time: Stamp): void;
  /** Descriptors that came with bytes. */
  descriptors(connection: number, from: Side, count: number, time: Stamp): void;
  /** A side sends no more. */
  end(connection: number, from: Side, time: Stamp): void;
  close(connection: number, time: Stamp): void;
  note(connection: number, text: string, time: Stamp): void;
}

/** Decodes what it is told. */
export class Decoder implements Tap {
  private readonly sink: Sink;
  private readonly conversations = new Map<number, Conversation>();

  constructor(sink: Sink) {
    this.sink = sink;
  }

  /** How many bytes end the message that a side is sending; see MessageStream. */
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

/** Tells several what it is told. */
export function tee(taps: readonly Tap[]): Tap {
  const all =
    <A extends unknown[]>(tell: (tap: Tap, ...args: A) => void) =>
    (...args: A): void => {
      for (const tap of taps) tell(tap, ...args);
    };
  return {
    open: all((tap, ...args: Parameters<Tap['open']>) => {
      tap.open(...args);
    }),
    data: all((tap, ...args: Parameters<Tap['data']>) => {
      tap.data(...args);
    }),
    descriptors: all((tap, ...args: Parameters<Tap['descriptors']>) => {
      tap.descriptors(...args);
    }),
    end: all((tap, ...args: Parameters<Tap['end']>) => {
      tap.end(...args);
    }),
    close: all((tap, ...args: Parameters<Tap['close']>) => {
      tap.close(...args);
    }),
    note: all((tap, ...args: Parameters<Tap['note']>) => {
      tap.note(...args);
    }),
  };
}
