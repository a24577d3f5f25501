/**
 * Gives memory back to the system while nothing happens. The runtime by itself keeps most of what it took: its heap shrinks
 * only a little, malloc keeps what was freed, and what the start and the compilers used of the runtime's own program stays
 * mapped.
 */
import { posix } from '../../posix/posix.ts';

/** Between two looks, in milliseconds. */
const LOOK_EVERY_MS = 2500;
/** How many clients and locks must have gone for a collection to be worth the while. */
const MANY = 1000;
/** How many may be left, at most and for each that has gone: collecting takes time by what is left. */
const MAX_LEFT = 4000;
const LEFT_SHARE = 0.25;
/** How many events there may be between two looks while it counts as quiet. */
const LITTLE = 20;

export interface Host {
  /** Clients and locks at present. */
  load(): number;
  /** Clients and locks that have gone so far. */
  gone(): number;
  /** Events on sockets so far. */
  events(): number;
}

/** What can be done, a step at a look, so that a request that comes just then waits for one of them only. */
export const steps = {
  /** Ends garbage and gives its pages back, which takes about 30 ms. */
  collect: (): void => {
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options: object) => void;
    // The collection that V8 makes when it is about to run out: no other one gives empty pages back at once.
    collect({ execution: 'sync', type: 'major', flavor: 'last-resort' });
  },
  /** Gives back what was freed outside the runtime's heap, and the pages of its program, in about 2 ms. */
  trim: (): void => {
    posix.trimMemory();
  },
} as const;

/** Looks from time to time, without keeping the process from ending. */
export function returnSpareMemory(host: Host): void {
  const look = watch(host);
  setInterval(() => {
    const step = look();
    if (step !== null) steps[step]();
  }, LOOK_EVERY_MS).unref();
}

/** To be called at every look: what it is time for. */
export function watch(host: Host): () => keyof typeof steps | null {
  let gone = host.gone();
  let events = host.events();
  /** Quiet looks in a row. */
  let quiet = 0;
  return () => {
    quiet = host.events() - events <= LITTLE ? quiet + 1 : 0;
    events = host.events();
    const leavers = host.gone() - gone;
    if (quiet > 0 && leavers >= MANY && host.load() <= Math.min(MAX_LEFT, leavers * LEFT_SHARE)) {
      gone = host.gone();
      // What the collection freed, and used of the program, is given back at the next look, if it is quiet too.
      quiet = 1;
      return 'collect';
    }
    return quiet === 2 ? 'trim' : null;
  };
}
