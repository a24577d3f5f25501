/** The typed face of relay.c. Functions return the result of their call, or a negative errno. */
import type { ByteString } from '../../../xdr/codec.ts';
import { requireFromRoot } from '../../posix/root.ts';

/** The most descriptors in one message, and one word before them for their number. */
export const DESCRIPTOR_WORDS = 254;

/** A watched descriptor. */
declare const watched: unique symbol;
export interface Watch {
  readonly [watched]: true;
}

/** Event bits of {@link Relay.setEvents}. */
export const Ready = { READABLE: 1, WRITABLE: 2 } as const;

export interface Relay {
  /** A listening socket that only its owner may connect to. */
  listen(path: ByteString): number;
  /** Whether somebody accepts connections there. */
  isListening(path: ByteString): boolean;
  accept(fd: number): number;
  /** Pid, uid and gid of the other side. */
  peerOf(fd: number, out: Int32Array): number;
  /**
   * Connects as the user and groups of the process at the other end of `fd`; out[0] tells whether that could be done. Never
   * waits: -EAGAIN when the backlog is full.
   */
  connectAs(path: ByteString, fd: number, out: Int32Array): number;
  /** At most `most` bytes; 0: end. descriptors[0] is the number of descriptors that came along, and they follow. */
  receive(fd: number, buffer: Buffer, most: number, descriptors: Int32Array): number;
  /** Sends from `start` to `end`, the first byte with the descriptors as {@link receive} has them. */
  send(fd: number, buffer: Buffer, start: number, end: number, descriptors: Int32Array): number;
  /** Ends the sending side. */
  endWriting(fd: number): number;
  /** Whether the other side is closed, and not only its sending half. */
  isGone(fd: number): boolean;
  close(fd: number): number;
  watch(fd: number, onEvents: (events: number) => void): Watch;
  setEvents(watch: Watch, events: number): number;
  /** Once, before the descriptor is closed. */
  unwatch(watch: Watch): void;
}

let loaded: Relay | undefined;

/** Loaded when first asked for: reading files needs none of it. */
export function relay(): Relay {
  loaded ??= requireFromRoot('./dist/relay.node') as Relay;
  return loaded;
}
