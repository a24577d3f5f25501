/** Finds what was wrong in the facts of a machine, and in its resets. */
import type { Fact, Reset } from './facts.ts';
import { endings, type Scene } from './plan.ts';

export interface Finding {
  readonly kind: string;
  readonly detail: string;
}

export function judge(wanted: readonly Scene[], facts: readonly Fact[], resets: readonly Reset[]): Finding[] {
  const findings: Finding[] = [];
  const add = (kind: string, detail: string): void => void findings.push({ kind, detail });
  for (const fact of facts) {
    if (fact.is === 'checked' && !fact.ok) add(`not so: ${fact.what}`, `${fact.scene}: ${fact.detail}`);
    if (fact.is === 'ended' && fact.error !== undefined) add('scene broken off', `${fact.scene}: ${fact.error}`);
  }
  for (const scene of wanted) {
    const own = resets.filter((reset) => reset.scene === scene);
    const hasEnded = facts.some((fact) => fact.is === 'ended' && fact.scene === scene);
    const [first] = own;
    if (endings[scene] === 'nothing') {
      if (first !== undefined) add('reset', `${scene}: where nothing may reset the machine`);
      else if (!hasEnded) add('scene not played', scene);
      continue;
    }
    // Broken off before that.
    if (first === undefined && hasEnded) continue;
    if (first === undefined) add('no reset', scene);
    else if (first.seconds === undefined) add('reset too early', `${scene}: before it was prepared`);
    else {
      if (first.left === undefined) add('reset too late', `${scene}: etcd had given the lock up by then`);
      if (endings[scene] === 'watchdog' && !first.byWatchdog) add('reset by something else', scene);
    }
    if (own.length > 1) add('reset', `${scene}: ${own.length} times`);
  }
  for (const { scene } of resets) if (scene === undefined) add('reset', 'before any scene');
  if (findings.length === 0 && !facts.some(({ is }) => is === 'done'))
    add('not to the end', 'the machine has not said that it is done');
  return findings;
}
