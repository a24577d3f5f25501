/** Finds what was wrong in the facts of a machine. */
import type { Fact } from './facts.ts';
import type { SceneName } from './plan.ts';

export interface Finding {
  readonly kind: string;
  readonly detail: string;
}

export function judge(wanted: readonly SceneName[], facts: readonly Fact[]): Finding[] {
  const findings: Finding[] = [];
  const add = (kind: string, detail: string): void => void findings.push({ kind, detail });
  for (const fact of facts) {
    if (fact.is === 'checked' && !fact.ok) add(`not so: ${fact.what}`, `${fact.scene}: ${fact.detail}`);
    if (fact.is === 'free') add('lock free', `${fact.scene}, during ${fact.during}: ${fact.file}, for ${fact.ms} ms`);
    if (fact.is === 'ended' && fact.error !== undefined) add('scene broken off', `${fact.scene}: ${fact.error}`);
  }
  const ended = new Set(facts.flatMap((fact) => (fact.is === 'ended' ? [fact.scene] : [])));
  for (const scene of wanted) if (!ended.has(scene)) add('scene not played', scene);
  return findings;
}
