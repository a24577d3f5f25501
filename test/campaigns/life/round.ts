/** A round: some owners begin to end at once, with restarts between, and every end is observed until it is over. */
import { setTimeout as pause } from 'node:timers/promises';
import { End } from './end.ts';
import type { EndFacts } from './facts.ts';
import type { Hosts } from './hosts.ts';
import type { RoundPlan } from './plan.ts';

interface RoundResult {
  readonly ends: readonly EndFacts[];
  /** How many SIGUSR1 were followed. */
  readonly restarts: number;
  /** How often a C daemon took over and gave back. */
  readonly swaps: number;
  /** Faults of a daemon. */
  readonly problems: readonly string[];
}

/** SIGUSR1 as planned, over and over. */
class Restarts {
  count = 0;
  /** The first that was not followed. */
  problem: string | undefined;
  readonly #finished: Promise<void>;
  #isOver = false;

  constructor(hosts: Hosts, plan: RoundPlan) {
    this.#finished = this.#run(hosts, plan).catch((error: unknown) => {
      this.problem = (error as Error).message;
    });
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#finished;
  }

  async #run(hosts: Hosts, { restarts }: RoundPlan): Promise<void> {
    for (let next = 0; ; next = (next + 1) % restarts.length) {
      const restart = restarts[next];
      if (restart === undefined) return;
      await pause(restart.after);
      if (this.#isOver) return;
      if (await hosts.restart(restart.host)) this.count++;
    }
  }
}

/** @throws Error when it could not be played, because its preconditions failed */
export async function playRound(hosts: Hosts, plan: RoundPlan): Promise<RoundResult> {
  const ends: End[] = [];
  const all = async (step: (end: End) => Promise<void>): Promise<void> => {
    await Promise.all(ends.map(step));
  };
  let restarts: Restarts | undefined;
  try {
    for (const [lane, end] of plan.ends.entries()) ends.push(new End(hosts, end, lane, `${plan.index}-${lane}`));
    await all(async (end) => end.own());
    const swaps = plan.swaps ? await hosts.swapToCAndBack('own') : 0;
    await all(async (end) => end.contest());
    restarts = new Restarts(hosts, plan);
    await all(async (end) => end.cause());
    if (plan.daemonEnds) await hosts.end('own');
    await all(async (end) => end.finish());
    await restarts.stop();
    if (plan.daemonEnds) await hosts.start('own');
    const { count, problem } = restarts;
    return {
      ends: ends.map(({ facts }) => facts),
      restarts: count,
      swaps,
      problems: problem === undefined ? [] : [problem],
    };
  } finally {
    await restarts?.stop();
    await all(async (end) => end.stop());
  }
}
