/**
 * Gives memory back to the system while the daemon is idle. The runtime keeps most of its memory: its heap shrinks only a little, malloc
 * keeps freed blocks, and the pages of the runtime's program that the start and the compilers used stay mapped.
 */
import { posix } from '../../posix/posix.ts';

/** Interval of checks, in milliseconds. */
const CHECK_EVERY_MS = 2500;
/** Clients and locks that must have gone for a collection to be worth while. */
const MANY = 1000;
/** Clients and locks that may be left, in all and for each that has gone: they determine the time of a collection. */
const MAX_LEFT = 4000;
const LEFT_SHARE = 0.25;
/** The most events between two checks of an idle daemon. */
const LITTLE = 20;

export interface Host {
  /** Clients and locks at present. */
  load(): number;
  /** Clients disconnected and locks released so far. */
  gone(): number;
  /** Events on sockets so far. */
  events(): number;
}

/** One step a check, so that a request that comes just then waits for one of them only. */
export const steps = {
  /** Collects garbage and gives its pages back, in about 30 ms. */
  collect: (): void => {
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options: object) => void;
    // V8's last resort before it is out of memory: no other collection gives empty pages back at once.
    collect({ execution: 'sync', type: 'major', flavor: 'last-resort' });
  },
  /** Gives back memory that was freed outside of the heap, and pages of the runtime's program, in about 2 ms. */
  trim: (): void => {
    posix.trimMemory();
  },
} as const;

export function returnSpareMemory(host: Host): void {
  const check = watch(host);
  setInterval(() => {
    const step = check();
    if (step !== null) steps[step]();
  }, CHECK_EVERY_MS).unref();
}

/** Returns a function to be called at every check, for the step that is due. */
export function watch(host: Host): () => keyof typeof steps | null {
  let gone = host.gone();
  let events = host.events();
  /** Quiet checks in a row. */
  let quiet = 0;
  return () => {
    quiet = host.events() - events <= LITTLE ? quiet + 1 : 0;
    events = host.events();
    const leavers = host.gone() - gone;
    if (quiet > 0 && leavers >= MANY && host.load() <= Math.min(MAX_LEFT, leavers * LEFT_SHARE)) {
      gone = host.gone();
      // The next quiet check trims what the collection has freed.
      quiet = 1;
      return 'collect';
    }
    return quiet === 2 ? 'trim' : null;
  };
}
