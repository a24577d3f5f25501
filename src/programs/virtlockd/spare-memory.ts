/**
 * Returns spare memory to the system while the daemon is quiet. By itself the runtime shrinks its heap only a little, malloc
 * keeps freed memory, and pages of the runtime's program that only the start used stay mapped.
 */
import { posix } from '../../posix/posix.ts';

/** Milliseconds between two checks. */
const CHECK_INTERVAL_MS = 2500;
/** A collection is worth its time if at least this many clients and locks have gone. */
const MIN_GONE = 1000;
/** The most that may be left, and the most for each that has gone: a collection takes time for those that are left. */
const MAX_LEFT = 4000;
const LEFT_SHARE = 0.25;
/** With at most this many events between two checks the daemon is quiet. */
const MAX_QUIET_EVENTS = 20;

export interface Host {
  /** Clients and locks at present. */
  load(): number;
  /** Clients and locks that have gone so far. */
  gone(): number;
  /** Events on sockets so far. */
  events(): number;
}

/** At most one step runs at a check, so that a request waits for one of them only. */
export const steps = {
  /** Collects garbage and returns its pages, which takes about 30 ms. */
  collect: (): void => {
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options: object) => void;
    // V8 makes this collection when it is about to run out of memory. No other kind returns empty pages at once.
    collect({ execution: 'sync', type: 'major', flavor: 'last-resort' });
  },
  /** Returns memory freed outside the runtime's heap, and pages of its program, which takes about 2 ms. */
  trim: (): void => {
    posix.trimMemory();
  },
} as const;

/** Checks regularly. Does not keep the process alive. */
export function returnSpareMemory(host: Host): void {
  const nextStep = watch(host);
  setInterval(() => {
    const step = nextStep();
    if (step !== null) steps[step]();
  }, CHECK_INTERVAL_MS).unref();
}

/** Returns a function that names the step to run now. It must be called at every check. */
export function watch(host: Host): () => keyof typeof steps | null {
  let gone = host.gone();
  let events = host.events();
  /** Quiet checks in a row. */
  let quiet = 0;
  return () => {
    quiet = host.events() - events <= MAX_QUIET_EVENTS ? quiet + 1 : 0;
    events = host.events();
    const leavers = host.gone() - gone;
    if (quiet > 0 && leavers >= MIN_GONE && host.load() <= Math.min(MAX_LEFT, leavers * LEFT_SHARE)) {
      gone = host.gone();
      // If the next check is quiet, too, it trims the memory that the collection has freed.
      quiet = 1;
      return 'collect';
    }
    return quiet === 2 ? 'trim' : null;
  };
}
