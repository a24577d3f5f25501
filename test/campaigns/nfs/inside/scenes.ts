/** The scenes, by their subjects: see ../plan.ts. */
import type { Subject } from '../plan.ts';
import { cut } from './cut.ts';
import { grace } from './grace.ts';
import { death, restart, swap } from './replaced.ts';
import { refusal, spaces } from './shared.ts';
import type { Stage } from './stage.ts';

export const scenes: Readonly<Record<Subject, (stage: Stage) => Promise<void>>> = {
  spaces,
  refusal,
  grace,
  cut,
  restart,
  death,
  swap,
};
