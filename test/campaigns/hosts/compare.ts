/** What C does, as it was recorded, and where another pair of daemons differs. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import type { Place } from '../../support/two-hosts.ts';
import type { Outcome } from './scene.ts';

const fileOf = (place: Place): string => join(checkout, 'fixtures/hosts', `c-${place}.json`);

/** The outcomes of two C daemons. */
export function recorded(place: Place): readonly Outcome[] {
  return JSON.parse(readFileSync(fileOf(place), 'utf8')) as readonly Outcome[];
}

export function record(place: Place, outcomes: readonly Outcome[]): void {
  const lines = outcomes.map((outcome) => JSON.stringify(outcome));
  writeFileSync(fileOf(place), `[\n${lines.join(',\n')}\n]\n`);
}

export interface Difference {
  readonly step: string;
  readonly outcome: Outcome | undefined;
  readonly expected: Outcome | undefined;
}

export function differences(outcomes: readonly Outcome[], expected: readonly Outcome[]): Difference[] {
  const most = Math.max(outcomes.length, expected.length);
  return Array.from({ length: most }, (_, index) => ({
    step: (outcomes[index] ?? expected[index])?.step ?? '',
    outcome: outcomes[index],
    expected: expected[index],
  })).filter(({ outcome, expected: other }, index) => {
    const lucky = withoutFault(other, expected[index - 1]);
    return canonical(outcome) !== canonical(other) && (lucky === undefined || canonical(outcome) !== canonical(lucky));
  });
}

/**
 * Where C's guest runs without a lock, libvirt has lost a race: on a busy machine it may win it, and the locks are as before. Undefined
 * of a step without such a fault.
 */
function withoutFault(outcome: Outcome | undefined, before: Outcome | undefined): Outcome | undefined {
  if (outcome === undefined || before === undefined || outcome.faults.length === 0) return undefined;
  return { ...outcome, faults: [], locks: before.locks };
}

const canonical = (outcome: Outcome | undefined): string =>
  JSON.stringify(outcome === undefined ? null : { ...outcome, locks: Object.entries(outcome.locks).sort() });
