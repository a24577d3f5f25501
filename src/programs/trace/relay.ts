/** The typed wrapper of relay.c. Functions return the result of their system call, or a negative errno. */
import type { ByteString } from '../../../xdr/codec.ts';
import { requireFromRoot } from '../../posix/root.ts';

/** One word for the number of descriptors, and the most that a message can carry. */
export const DESCRIPTOR_WORDS = 254;

declare const watched: unique symbol;
export interface Watch {
  readonly [watched]: true;
}

/** Event bits of {@link Relay.setEvents}, as UV_READABLE and UV_WRITABLE. */
export const Ready = { READABLE: 1, WRITABLE: 2 } as const;

interface Relay {
  /** A listening socket that only its owner may connect to. */
  listen(path: ByteString): number;
  /** Whether a process accepts connections there. */
  isListening(path: ByteString): boolean;
  accept(fd: number): number;
  /** Pid, uid and gid of the other side. */
  peerOf(fd: number, out: Int32Array): number;
  /**
   * Connects as the user and groups of the process at the other end of `fd`; out[0] is 0 if that was not possible. Never
   * blocks: -EAGAIN if the backlog is full.
   */
  connectAs(path: ByteString, fd: number, out: Int32Array): number;
  /** Receives at most `most` bytes; 0 is the end. descriptors[0] is the number of attached descriptors, which follow. */
  receive(fd: number, buffer: Buffer, most: number, descriptors: Int32Array): number;
  /** Sends from `start` to `end`, with descriptors in the form of {@link receive} on the first byte. */
  send(fd: number, buffer: Buffer, start: number, end: number, descriptors: Int32Array): number;
  /** Shuts down the sending side. */
  endWriting(fd: number): number;
  /** Whether the other side has closed, and not only shut down. */
  isGone(fd: number): boolean;
  close(fd: number): number;
  watch(fd: number, onEvents: (events: number) => void): Watch;
  setEvents(watch: Watch, events: number): number;
  /** Once, before the descriptor is closed. */
  unwatch(watch: Watch): void;
}

let loaded: Relay | undefined;

/** Loaded on first use: reading files does not need it. */
export function relay(): Relay {
  loaded ??= requireFromRoot('./dist/relay.node') as Relay;
  return loaded;
}
