/** What the virtual machine reports, a line of JSON each. */
import { factReader } from '../machine.ts';
import type { SceneName } from './plan.ts';

export type Fact =
  | { readonly is: 'begun'; readonly scene: SceneName }
  | { readonly is: 'ended'; readonly scene: SceneName; readonly seconds: number; readonly error?: string }
  /** Something that must be so. `detail`: what was seen. */
  | {
      readonly is: 'checked';
      readonly scene: SceneName;
      readonly what: string;
      readonly ok: boolean;
      readonly detail: string;
    }
  /** Words of a daemon or a tool, for the report. */
  | { readonly is: 'said'; readonly scene: SceneName; readonly what: string; readonly text: string }
  | { readonly is: 'measured'; readonly scene: SceneName; readonly what: string; readonly ms: number }
  /** A lock that its owner had not released, and that the other host's kernel found free for so long, in ms. */
  | {
      readonly is: 'free';
      readonly scene: SceneName;
      readonly during: string;
      readonly file: string;
      readonly ms: number;
    }
  /** The machine has played all scenes. */
  | { readonly is: 'done'; readonly kernel: string };

export const factIn = factReader<Fact>(['begun', 'ended', 'checked', 'said', 'measured', 'free', 'done']);
