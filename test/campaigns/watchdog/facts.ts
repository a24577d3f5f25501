/** What the virtual machine reports, a line of JSON each, and what is seen of it from outside. */
import { factReader } from '../machine.ts';
import type { Scene } from './plan.ts';

export type Fact =
  | { readonly is: 'booted'; readonly kernel: string; readonly device: string }
  | { readonly is: 'begun'; readonly scene: Scene }
  /** From now on the machine is to be reset. */
  | { readonly is: 'armed'; readonly scene: Scene }
  /** It is to go on, and has played it. */
  | { readonly is: 'ended'; readonly scene: Scene; readonly error?: string }
  /** Something that must be so. `detail`: what was seen. */
  | {
      readonly is: 'checked';
      readonly scene: Scene;
      readonly what: string;
      readonly ok: boolean;
      readonly detail: string;
    }
  /** Words of a daemon or a tool, for the report. */
  | { readonly is: 'said'; readonly scene: Scene; readonly what: string; readonly text: string }
  /** The machine has played all scenes. */
  | { readonly is: 'done' };

export const factIn = factReader<Fact>(['booted', 'begun', 'armed', 'ended', 'checked', 'said', 'done']);

/** A reset of the machine, as QEMU and etcd saw it. */
export interface Reset {
  /** During which it was; undefined: none was played. */
  readonly scene: Scene | undefined;
  /** The device did it, and not the machine itself. */
  readonly byWatchdog: boolean;
  /** From `armed` on; undefined: that was not reported. */
  readonly seconds: number | undefined;
  /** Of the scene's lease, in whole seconds, as etcd had it then; undefined: the scene's lock was not in etcd any more. */
  readonly left: number | undefined;
}
