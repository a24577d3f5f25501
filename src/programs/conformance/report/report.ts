/** What a run found, in the form that every report is made of. */
import type { Result, Verdict } from '../check.ts';
import type { Generation } from '../../../lab/generation.ts';

export interface Report {
  /** The command, or the socket. */
  readonly daemon: string;
  /** The version of libvirt it claims, as libvirt counts it. */
  readonly claims: number;
  /** The recorded generation it was judged by. */
  readonly generation: Generation;
  /** What it was compared with instead. */
  readonly against?: string;
  /** When, as an ISO time, and for how long, in ms. */
  readonly started: string;
  readonly time: number;
  /** Of this program. */
  readonly version: string;
  readonly results: readonly Result[];
}

export interface Totals extends Record<Verdict, number> {
  /** Of the failures, those that a known defect explains. */
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
