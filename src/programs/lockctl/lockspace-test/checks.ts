/**
 * The checks of `lockspace test`: two sides take locks on files that they make, of the kinds of this daemon (`ofd`) and of libvirt's C daemon
 * (`posix`), on the byte that daemons lock. Every check is made with each side as the first one.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { LockKind } from '../../../posix/record-lock.ts';
import { GONE, type Side, SideFailure, type TestFile } from './peer.ts';
import { TakenState } from './protocol.ts';

/** A warning keeps nobody's lock away; unknown: the check itself could not be made. */
export type Result = 'ok' | 'warning' | 'bad' | 'unknown';

export interface CheckResult {
  /** For programs. */
  readonly check: string;
  readonly result: Result;
  /** What is shown when it is ok. */
  readonly title: string;
  /** What was found instead. */
  readonly found: readonly string[];
}

/** How long a lock may stay after its release or its holder's death, in milliseconds. */
const RELEASE_MS = 5000;
const DEATH_MS = 20_000;
const RETRY_MS = 50;
/** How long a client's cache may hide that a file was removed and made again, in milliseconds. */
const CACHE_MS = 5000;

/** Ends a check. */
class Found extends Error {
  readonly result: Result;

  constructor(result: Result, message: string) {
    super(message);
    this.result = result;
  }
}

const bad = (text: string): Found => new Found('bad', text);

type Check = (first: Side, second: Side) => Promise<void>;

const KINDS: readonly LockKind[] = ['ofd', 'posix'];
const NAMES: Readonly<Record<LockKind, string>> = { ofd: 'OFD', posix: 'POSIX' };

/** A name that no other file has: see TEST_FILE. */
function freshName(): string {
  return `.virt-lockctl-test-${randomBytes(8).toString('hex')}`;
}

interface Pair {
  readonly name: string;
  readonly first: TestFile;
  readonly second: TestFile;
}

/** Makes a file through one side, and opens it through the other. */
async function openPair(first: Side, second: Side): Promise<Pair> {
  const name = freshName();
  const made = await first.create(name);
  return { name, first: made, second: await second.open(name) };
}

async function until(limit: number, probe: () => Promise<boolean>): Promise<boolean> {
  const end = performance.now() + limit;
  for (;;) {
    if (await probe()) return true;
    if (performance.now() > end) return false;
    await pause(RETRY_MS);
  }
}

const isSameStorage: Check = async (first, second) => {
  const name = freshName();
  await first.create(name);
  try {
    await second.open(name);
  } catch (error) {
    if (!(error instanceof SideFailure) || error.code !== 'ENOENT') throw error;
    throw bad(`a file that ${first.label} has made is not there for ${second.label}: this is not the same storage`);
  }
};

const isGranted: Check = async (first) => {
  for (const kind of KINDS) {
    const file = await first.create(freshName());
    try {
      if (await file.lock(kind, 'write')) continue;
    } catch (error) {
      if (!(error instanceof SideFailure)) throw error;
      throw bad(`${first.label} gets no ${NAMES[kind]} lock on a new file: ${error.code}`);
    }
    throw bad(`${first.label} gets no ${NAMES[kind]} lock on a new file`);
  }
};

/** @param of the lock that is held @param wanted by the other side */
function excludes(of: LockKind, wanted: LockKind): Check {
  return async (first, second) => {
    const pair = await openPair(first, second);
    await pair.first.lock(of, 'write');
    for (const type of ['write', 'read'] as const) {
      if (!(await pair.second.lock(wanted, type))) continue;
      const word = type === 'write' ? 'an exclusive' : 'a shared';
      throw bad(
        `${second.label} gets ${word} lock beside the exclusive one of ${first.label}: it is granted, and not shared`,
      );
    }
    await pair.first.unlock(of);
    if (!(await until(RELEASE_MS, async () => pair.second.lock(wanted, 'write'))))
      throw bad(`${second.label} does not get a lock that ${first.label} has released`);
  };
}

function shares(kind: LockKind): Check {
  return async (first, second) => {
    const pair = await openPair(first, second);
    await pair.first.lock(kind, 'read');
    if (!(await pair.second.lock(kind, 'read')))
      throw bad(`${second.label} gets no shared lock beside the shared one of ${first.label}`);
    if (await pair.second.lock(kind, 'write'))
      throw bad(`${second.label} gets an exclusive lock beside the shared one of ${first.label}`);
    await pair.first.unlock(kind);
    if (!(await until(RELEASE_MS, async () => pair.second.lock(kind, 'write'))))
      throw bad(`${second.label} cannot make its shared lock exclusive after ${first.label} has released its own`);
  };
}

/** Opens a file whose name a cache may still give to another one. */
async function openAgain(side: Side, name: string): Promise<TestFile> {
  let found: TestFile | undefined;
  const isOpen = async (): Promise<boolean> => {
    found = await side.open(name).catch((error: unknown) => {
      if (error instanceof SideFailure && GONE.has(error.code)) return undefined;
      throw error;
    });
    return found !== undefined;
  };
  await until(CACHE_MS, isOpen);
  return found ?? side.open(name);
}

/** A lock file that one host removes and makes again, while another has the old one open. */
function noticesReplacement(kind: LockKind): Check {
  return async (first, second) => {
    const { name, first: old, second: late } = await openPair(first, second);
    const countsLinks = (await old.take(kind)) !== TakenState.UNLINKED;
    await first.remove(name);
    await old.close();
    const anew = await first.create(name);
    await anew.take(kind);
    const state = await late.take(kind);
    if (state === TakenState.HELD || (state === TakenState.UNLINKED && !countsLinks))
      throw bad(`${second.label} locks a file that ${first.label} has removed and made again, and does not notice`);
    const found = await openAgain(second, name);
    if (await found.lock(kind, 'write'))
      throw bad(`${second.label} gets the lock on a file that ${first.label} has made again and holds`);
  };
}

const isReported: Check = async (first, second) => {
  const pair = await openPair(first, second);
  for (const kind of KINDS) {
    await pair.first.lock(kind, 'write');
    if (!(await pair.second.seesLock(kind)))
      throw new Found(
        'warning',
        `${second.label} is refused, but the kernel reports no lock to 'who' and 'why' (F_GETLK)`,
      );
    await pair.first.unlock(kind);
  }
};

const MUTUAL: readonly { readonly check: string; readonly title: string; readonly run: Check }[] = [
  { check: 'granted', title: 'locks can be taken at all', run: isGranted },
  ...KINDS.flatMap((kind) => [
    {
      check: `exclusive-${kind}`,
      title: `${NAMES[kind]}: an exclusive lock keeps out all others, until it is released`,
      run: excludes(kind, kind),
    },
    {
      check: `shared-${kind}`,
      title: `${NAMES[kind]}: shared locks keep out exclusive ones, and no shared ones`,
      run: shares(kind),
    },
  ]),
  {
    check: 'mixed',
    title: "OFD and POSIX locks exclude each other: this daemon's and those of libvirt's C daemon",
    run: async (first, second) => {
      await excludes('ofd', 'posix')(first, second);
      await excludes('posix', 'ofd')(first, second);
    },
  },
  {
    check: 'replaced',
    title: 'a lock file that the other side removes and makes again is noticed',
    run: async (first, second) => {
      for (const kind of KINDS) await noticesReplacement(kind)(first, second);
    },
  },
  { check: 'reported', title: "a lock of the other side is visible to 'who' and 'why'", run: isReported },
];

/**
 * Makes the checks in turn, and hands on each result at once. Both sides are dead after the last one.
 *
 * @param startFirst starts a side in place of the first one
 * @throws SideLost
 */
export async function runChecks(
  first: Side,
  second: Side,
  startFirst: () => Promise<Side>,
  onResult: (result: CheckResult) => void,
): Promise<void> {
  const bothWays = async (run: Check): Promise<Outcome> => {
    const outcomes = [await outcomeOf(run, first, second), await outcomeOf(run, second, first)];
    for (const side of [first, second]) await side.clear();
    return worst(outcomes);
  };
  const same = await bothWays(isSameStorage);
  onResult({ check: 'same-storage', title: 'each side sees the files of the other', ...same });
  if (same.result !== 'ok') return;
  for (const { check, title, run } of MUTUAL) {
    const outcome = await bothWays(run);
    onResult({ check, title, ...outcome });
    // Nothing else can be found out.
    if (check === 'granted' && outcome.result !== 'ok') return;
  }
  const firstDeath = await outcomeOf(freesAtDeath, first, second);
  await second.clear();
  const secondDeath = await outcomeOf(freesAtDeath, second, await startFirst());
  onResult({
    check: 'death',
    title: 'the locks of a process end with it',
    ...worst([firstDeath, secondDeath]),
  });
}

/** Kills the first side, which has locks of both kinds. */
const freesAtDeath: Check = async (first, second) => {
  const pairs: [LockKind, Pair][] = [];
  for (const kind of KINDS) {
    const pair = await openPair(first, second);
    await pair.first.lock(kind, 'write');
    pairs.push([kind, pair]);
  }
  await first.die();
  for (const [kind, pair] of pairs) {
    if (!(await until(DEATH_MS, async () => pair.second.lock(kind, 'write'))))
      throw bad(`${second.label} does not get the ${NAMES[kind]} lock of a process of ${first.label} that has died`);
  }
};

type Outcome = Omit<CheckResult, 'check' | 'title'>;

async function outcomeOf(run: Check, first: Side, second: Side): Promise<Outcome> {
  try {
    await run(first, second);
    return { result: 'ok', found: [] };
  } catch (error) {
    if (error instanceof Found) return { result: error.result, found: [error.message] };
    if (error instanceof SideFailure) return { result: 'unknown', found: [error.message] };
    throw error;
  }
}

const ORDER: readonly Result[] = ['ok', 'warning', 'unknown', 'bad'];

function worst(outcomes: readonly Outcome[]): Outcome {
  return { result: worstOf(outcomes.map(({ result }) => result)), found: outcomes.flatMap(({ found }) => found) };
}

export function worstOf(results: readonly Result[]): Result {
  return results.reduce((found, one) => (ORDER.indexOf(one) > ORDER.indexOf(found) ? one : found), 'ok');
}
