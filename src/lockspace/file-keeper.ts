/**
 * Whoever keeps held files beyond the daemon's life: with another descriptor of the open file elsewhere, and a record of who holds
 * it. Told in the order in which a lock comes and goes, so that whatever instruction the process dies at, what is kept and what is on
 * record lead to the truth. Nothing here may throw.
 */
import type { Stat } from '../posix/posix.ts';
import type { HeldFile } from './files.ts';

export interface FileKeeper {
  /** Files can be kept at present. While they cannot, {@link keeps} is not asked, and all new locks are POSIX ones. */
  readonly isKeeping: boolean;
  /** Whether a file, which is open, is to have an OFD lock: only that one outlives the process. Not of one that may hang: see local-files.ts. */
  keeps(fd: number, stat: Stat): boolean;
  /** It is locked, and nobody was told yet. Not called for what is adopted. */
  locked(file: HeldFile): void;
  /** Its lock is of another kind now: a POSIX one is not worth keeping. */
  kindChanged(file: HeldFile): void;
  /** Nobody holds it any more. It has its name and its lock. */
  releasing(file: HeldFile): void;
  /** Its name is gone, if it was to go, and its OFD lock. It is open still, and closed next. POSIX locks go with the close. */
  unlocked(file: HeldFile): void;
  /** It is closed, and its descriptor's number free. */
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
