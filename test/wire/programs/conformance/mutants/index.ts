/** All mutants. */
import { adminMutants, daemonMutants, inquireMutants, restartMutants } from './daemon.ts';
import { lockMutants } from './locks.ts';
import type { Mutant } from './mutant.ts';
import { ownerMutants } from './owners.ts';
import { wireMutants } from './wire.ts';

export const mutants: readonly Mutant[] = [
  ...lockMutants,
  ...ownerMutants,
  ...wireMutants,
  ...adminMutants,
  ...restartMutants,
  ...daemonMutants,
  ...inquireMutants,
];
