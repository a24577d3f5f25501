/** The observations of one owner's end. Times are CLOCK_MONOTONIC in ns. */
import type { Line } from './children.ts';
import type { EndPlan } from './plan.ts';
import type { LastWrite } from './storage.ts';

/** The output of native/rivals.c. */
export interface RivalLine extends Line {
  readonly is: 'asking' | 'answer' | 'served' | 'forgotten' | 'closed' | 'gone' | 'done';
  /** Its index in the plan. */
  readonly rival?: number;
  /** When the call was sent that is answered at `at`. */
  readonly sent?: number;
  /** libvirt's error code; 0: success. */
  readonly code?: number;
  /** Whether the owner was gone when the answer came. */
  readonly gone?: boolean;
  /** The last writer to the disk at the grant, and the time of that write. */
  readonly by?: 'writer' | 'rival';
  readonly wrote?: number;
}

export interface EndFacts {
  readonly plan: EndPlan;
  /** Right before the end of the owner's connection, or the daemon's; undefined when only its death could end it. */
  readonly began: number | undefined;
  /** Right after the end of its connection; undefined when nobody saw it. */
  readonly hungUp: number | undefined;
  readonly lines: readonly RivalLine[];
  /** Of each disk, when all was over. */
  readonly last: readonly LastWrite[];
  /** Faults beside the answers. */
  readonly problems: readonly string[];
}
