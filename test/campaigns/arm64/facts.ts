/** What the steps report, in the virtual machine a line of JSON each, and what is wrong in it. */
import { factReader } from '../machine.ts';

export type Fact =
  | { readonly is: 'begun'; readonly step: string }
  /** Something that must be so. `detail`: what was seen. */
  | {
      readonly is: 'checked';
      readonly step: string;
      readonly what: string;
      readonly ok: boolean;
      readonly detail: string;
    }
  /** Words of a daemon or a tool, for the report. */
  | { readonly is: 'said'; readonly step: string; readonly text: string }
  /** A held lock that the kernel had free for so long, in ms. */
  | { readonly is: 'free'; readonly file: string; readonly ms: number }
  /** A step could not be played to its end, nor those after it. */
  | { readonly is: 'broken'; readonly step: string; readonly error: string }
  /** All steps were played. `asked`: how often the kernel was asked for the locks. */
  | { readonly is: 'done'; readonly kernel: string; readonly asked: number };

export const factIn = factReader<Fact>(['begun', 'checked', 'said', 'free', 'broken', 'done']);

export function judge(facts: readonly Fact[]): string[] {
  const found = facts.flatMap((fact) => {
    switch (fact.is) {
      case 'checked':
        return fact.ok ? [] : [`${fact.step}: not so: ${fact.what}: ${fact.detail}`];
      case 'free':
        return [`a held lock was free: ${fact.file}, for ${fact.ms} ms`];
      case 'broken':
        return [`${fact.step}: broken off: ${fact.error}`];
      default:
        return [];
    }
  });
  const isWhole = facts.some(({ is }) => is === 'done' || is === 'broken');
  return isWhole ? found : [...found, 'the steps have not come to their end'];
}
