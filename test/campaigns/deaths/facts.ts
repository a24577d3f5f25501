/** What was seen. Times are CLOCK_MONOTONIC in ns. */
import type { Way } from './ways.ts';

export const now = (): number => Number(process.hrtime.bigint());

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** In which a running guest must have its disk. */
export interface Held extends Span {
  readonly guest: string;
  readonly file: string;
}

export interface Operation extends Span {
  readonly guest: string;
  readonly name: string;
  /** libvirt's words; undefined when it succeeded. */
  readonly error: string | undefined;
}

/** One end of the daemon, from the signal to the first answer of the next one. */
export interface Death extends Span {
  readonly way: Way;
}

/** An instant in which the kernel had a file's lock to give away. */
export interface Free {
  readonly at: number;
  readonly file: string;
}

/** An acquire of the rival that was granted. */
export interface Grant extends Span {
  readonly file: string;
}

/** What is wrong in itself, wherever it is seen. */
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
  /** Warnings and errors of libvirtd's that it has not made before the first death. */
  readonly log: readonly string[];
}
