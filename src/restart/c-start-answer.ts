/** What the daemon asks the child that foresees a C daemon's start (programs/virtlockd/c-start.ts), and what that answers. */
import type { ByteString } from '../../xdr/codec.ts';

export interface CStart {
  /** The words that it will be executed with. */
  readonly args: readonly ByteString[];
  /** Where its state will be. */
  readonly stateFile: ByteString;
  /** A file that holds it already. */
  readonly document: ByteString;
  /** The inode key of the pid file that is locked; null when there is none. */
  readonly pidFile: string | null;
}

/** What it opens, and more that the daemon itself must look at. */
export interface CStartOutlook {
  /** Inode keys of its configuration and its log files. It closes them again, which drops the lock of one that is held. */
  readonly opened: readonly string[];
  /** How many of them stay open. */
  readonly logFiles: number;
  /** Seconds after which it ends when nobody is connected, whatever is locked; 0 never. */
  readonly timeout: number;
}

/** A line of the child's answer: what it is about to look at; at the end what it found, or why the C daemon would end. */
export type CStartAnswer =
  { readonly begin: ByteString } | { readonly outlook: CStartOutlook } | { readonly failure: string };

/** The child's descriptor for its answer: the standard streams are the daemon's, which may be named as log files. */
export const ANSWERS = 3;
