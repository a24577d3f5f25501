/**
 * Gives memory back to the system when many clients and locks have come and gone. The runtime by itself keeps most of what
 * it took: its heap shrinks only a little while nothing happens, malloc keeps what was freed, and what the compilers used
 * of the runtime's own program stays mapped.
 */
import { posix } from '../posix/posix.ts';

/** Between two looks, in milliseconds. */
const LOOK_EVERY_MS = 2500;
/** How many clients and locks must have gone for it to be worth the while. */
const MANY = 1000;
/** How many may be left, at most and for each that has gone: collecting takes time by what is left. */
const LEFT_MOST = 4000;
const LEFT_SHARE = 0.25;
/** How many rounds of the poller may go by between two looks while it counts as quiet. */
const LITTLE = 20;

export interface Host {
  /** Clients and locks at present. */
  load(): number;
  /** Clients and locks that have gone so far. */
  gone(): number;
  /** Rounds of the poller so far. */
  rounds(): number;
}

/** Looks from time to time, without keeping the process from ending. */
export function returnSpareMemory(host: Host): void {
  const isTime = watch(host);
  setInterval(() => {
    if (isTime()) void giveBack();
  }, LOOK_EVERY_MS).unref();
}

/** To be called at every look: whether it is time to give memory back. */
export function watch(host: Host): () => boolean {
  let gone = host.gone();
  let rounds = host.rounds();
  return () => {
    const quiet = host.rounds() - rounds <= LITTLE;
    rounds = host.rounds();
    const leavers = host.gone() - gone;
    if (!quiet || leavers < MANY || host.load() > Math.min(LEFT_MOST, leavers * LEFT_SHARE)) return false;
    gone = host.gone();
    return true;
  };
}

/** Gives back what it can. In steps, so that a request that comes just now waits for one of them only: the longest takes about 30 ms. */
export async function giveBack(): Promise<void> {
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  const { runInNewContext } = process.getBuiltinModule('node:vm');
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  await turn();
  // The collection that V8 makes when it is about to run out: no other one gives empty pages back at once.
  collect({ execution: 'sync', type: 'major', flavor: 'last-resort' });
  await turn();
  posix.trimMemory();
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
