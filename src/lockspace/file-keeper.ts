/**
 * The keeper of held files beyond the daemon's life: it has a duplicate of their descriptors stored in another process. files.ts calls
 * it in the order in which a lock is granted and released. So the next process can restore or finish either, at whatever instruction
 * this one dies. No method may throw.
 */
import type { Stat } from '../posix/posix.ts';
import type { HeldFile } from './files.ts';

export interface FileKeeper {
  /** Whether it keeps files at present. While it does not, {@link keeps} is not called, and all new locks are POSIX locks. */
  readonly isKeeping: boolean;
  /** Whether an open file gets an OFD lock, which outlives the process. False on file systems that may hang: see local-files.ts. */
  keeps(fd: number, stat: Stat): boolean;
  /** The file is locked, and the call is not answered yet. Not called for adopted files. */
  locked(file: HeldFile): void;
  /** The kind of its lock has changed. A POSIX lock does not outlive the process, so the keeper drops the file. */
  kindChanged(file: HeldFile): void;
  /** Its last hold is released. It still has its name and its lock. */
  releasing(file: HeldFile): void;
  /** It is unlinked, if it was to be, and its OFD lock is unlocked. It is closed next. Not called for POSIX locks: the close drops them. */
  unlocked(file: HeldFile): void;
  /** It is closed, and the kernel may reuse the descriptor's number. */
  gone(file: HeldFile): void;
}

export const NO_KEEPER: FileKeeper = {
  isKeeping: false,
  keeps: () => false,
  locked: () => undefined,
  kindChanged: () => undefined,
  releasing: () => undefined,
  unlocked: () => undefined,
  gone: () => undefined,
};
