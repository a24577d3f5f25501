/** The group restart. */
import type { WrittenCheck } from '../../check.ts';
import { clientChecks } from './clients.ts';
import { lockChecks } from './locks.ts';
import { processChecks } from './process.ts';

export const restartChecks: readonly WrittenCheck[] = [...lockChecks, ...clientChecks, ...processChecks];
