/** The facts of a run, for the judge. Times are CLOCK_MONOTONIC in ns. */
import type { Way } from './ways.ts';

export const now = (): number => Number(process.hrtime.bigint());

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** A span in which a guest ran, so that its disk must be locked. */
export interface Held extends Span {
  readonly guest: string;
  readonly file: string;
}

export interface Operation extends Span {
  readonly guest: string;
  readonly name: string;
  /** The disks of which the guest need not have the lock throughout. */
  readonly files: readonly string[];
  /** libvirt's error; undefined when the operation succeeded. */
  readonly error: string | undefined;
}

/** One end of the daemon, from the signal to the first answer of the next one. */
export interface Death extends Span {
  readonly way: Way;
  /** Where a placed one was. */
  readonly place?: string;
}

/** An instant at which the kernel granted the watch a file's lock. */
export interface Free {
  readonly at: number;
  readonly file: string;
}

/** An acquire of the rival that was granted. */
export interface Grant extends Span {
  readonly file: string;
}

/** A line of a libvirtd's log. */
export interface Line {
  readonly at: number;
  readonly text: string;
}

/** A finding that needs no other fact. */
export interface Problem {
  readonly at: number;
  readonly kind: string;
  readonly detail: string;
}

export interface Facts {
  readonly held: readonly Held[];
  readonly operations: readonly Operation[];
  readonly deaths: readonly Death[];
  readonly free: readonly Free[];
  readonly grants: readonly Grant[];
  readonly problems: readonly Problem[];
  /** When a child of libvirtd was killed that hung by itself. */
  readonly forks: readonly number[];
  /** libvirt's warnings and errors, without numbers, and without those that it also logged before the first death. */
  readonly log: readonly Line[];
}
