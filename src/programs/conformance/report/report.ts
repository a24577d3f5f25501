/** The results of a run, from which every report is made. */
import type { Result, Verdict } from '../check.ts';
import type { Generation } from '../../../lab/generation.ts';

export interface Report {
  /** The command, or the socket. */
  readonly daemon: string;
  /** The version of libvirt it claims, as libvirt counts it. */
  readonly claims: number;
  /** The recorded generation that judged it. */
  readonly generation: Generation;
  /** The other daemon or version of a comparison. */
  readonly against?: string;
  /** The start as an ISO time, and the duration in ms. */
  readonly started: string;
  readonly time: number;
  /** The version of this program. */
  readonly version: string;
  readonly results: readonly Result[];
}

export interface Totals extends Record<Verdict, number> {
  /** The failures that a known defect explains. */
  readonly known: number;
}

export function totals(results: readonly Result[]): Totals {
  const count = (verdict: Verdict): number => results.filter((result) => result.verdict === verdict).length;
  const known = results.filter((result) => result.known !== undefined).length;
  return { pass: count('pass'), fail: count('fail'), skip: count('skip'), known };
}

/** 9000000 as 9.0.0 */
export function versionText(version: number): string {
  return [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000, version % 1000].join('.');
}
