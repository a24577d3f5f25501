/** The rounds of `npm run rpm`: in each one every step is taken once, and killed at one point of it. */
import { Random } from '../../../src/programs/fuzz/random.ts';
import { type RpmHost, type Step, STEPS } from '../../package/rpm/host.ts';

export interface Fault {
  readonly step: Step;
  readonly point: number;
  readonly message: string;
  /** Runs it again. */
  readonly command: string;
}

export interface Report {
  /** How many scriptlets and commands each step has. */
  readonly points: Readonly<Record<Step, number>>;
  /** How often rpm was killed. */
  killed: number;
  readonly faults: Fault[];
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly points: readonly number[];
  readonly sample: number;
  readonly seed: number;
}

/** The points at which each step is to be killed. */
function choose({ steps, points, sample, seed }: Plan, counts: Report['points']): Map<Step, number[]> {
  const random = new Random(seed);
  return new Map(
    steps.map((step) => {
      const all = Array.from({ length: counts[step] }, (_, index) => index + 1);
      const left = points.length === 0 ? all : all.filter((point) => points.includes(point));
      const chosen =
        sample === 0
          ? left
          : Array.from(
              { length: Math.min(sample, left.length) },
              () => left.splice(random.below(left.length), 1)[0] ?? 0,
            );
      return [step, chosen];
    }),
  );
}

/**
 * Runs the plan.
 * @param open a host with the C daemon. Called again after a fault, as nobody knows what that left
 * @param onRound called before each round with its number and how many there are
 */
export async function run(
  open: () => Promise<RpmHost>,
  plan: Plan,
  onRound: (round: number, rounds: number) => void = () => undefined,
): Promise<Report> {
  let host = await open();
  try {
    const counts = {} as Record<Step, number>;
    for (const step of STEPS) counts[step] = await host.count(step);
    const chosen = choose(plan, counts);
    const report: Report = { points: counts, killed: 0, faults: [] };
    const rounds = Math.max(...[...chosen.values()].map(({ length }) => length));
    for (let round = 0; round < rounds; round++) {
      onRound(round + 1, rounds);
      for (const step of STEPS) {
        const point = chosen.get(step)?.[round];
        if (point === undefined) {
          await host.take(step);
          continue;
        }
        try {
          report.killed += Number(await host.takeKilledAt(step, point));
        } catch (error) {
          const message = (error as Error).message;
          const command = `npm run rpm -- --steps '${step}' --points ${point}`;
          report.faults.push({ step, point, message, command });
          await host.close();
          host = await open();
          for (const done of STEPS.slice(0, STEPS.indexOf(step) + 1)) await host.take(done);
        }
      }
    }
    return report;
  } finally {
    await host.close();
  }
}
