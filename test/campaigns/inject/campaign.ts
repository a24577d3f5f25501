/** Restarts, each with another failing call, and the findings. */
import { type Outcome, Scene, type SceneOptions } from './scene.ts';
import type { Injection } from './tracer.ts';
import { type Way, wayOf } from './way.ts';

export interface Finding {
  readonly injection: Injection;
  readonly scene: SceneOptions;
  readonly problems: readonly string[];
  readonly log: string;
  /** Whether it was met again in a new scene. */
  readonly again: boolean;
}

export interface Counts {
  runs: number;
  restarted: number;
  refused: number;
  /** The call was not made as often as before. */
  missed: number;
}

/** Whether the call is made by the dynamic loader, or by the runtime before it has read the script. */
export function isAtBoot({ key }: Injection): boolean {
  return key.startsWith('boot ');
}

/** Whether the runtime ends at an error of it, whatever it runs. */
function endsRuntime(injection: Injection): boolean {
  return isAtBoot(injection) || injection.key.includes(' io_uring_enter ');
}

export class Campaign {
  readonly findings: Finding[] = [];
  /** Ends of the runtime itself: before the first line of this project's code, or because libuv aborts. */
  readonly unstarted: Injection[] = [];
  readonly usual = new Set<string>();
  readonly counts: Counts = { runs: 0, restarted: 0, refused: 0, missed: 0 };
  readonly #options: SceneOptions;
  #scene: Scene | undefined;

  constructor(options: SceneOptions) {
    this.#options = options;
  }

  /** The calls of `restarts` restarts without an error. Faults of these are in `usual`, and are no findings. */
  async way(restarts = 3): Promise<Way> {
    const seen: (readonly string[])[] = [];
    for (let i = 0; i < restarts; i++) {
      const { problems, calls } = await this.#run(undefined, true);
      for (const problem of problems) this.usual.add(problem);
      seen.push(calls);
    }
    return wayOf(seen);
  }

  /** One restart. @returns the finding, if any */
  async try(injection: Injection): Promise<Finding | null> {
    const outcome = await this.#run(injection);
    const { counts } = this;
    counts.runs++;
    if (!outcome.fired) counts.missed++;
    if (outcome.ending === 'restarted' || outcome.ending === 'refused') counts[outcome.ending]++;
    if (outcome.problems.length === 0) return null;
    if (endsRuntime(injection) && outcome.ending === 'dead') {
      this.unstarted.push(injection);
      return null;
    }
    // In a new scene, for the restarts before may have had their part in it.
    const second = await this.#run(injection);
    const { problems, log } = second.problems.length > 0 ? second : outcome;
    const finding = { injection, scene: this.#options, problems, log, again: second.problems.length > 0 };
    this.findings.push(finding);
    return finding;
  }

  /** A restart in which that call fails, with a list of its calls. */
  async show(injection: Injection): Promise<Outcome> {
    return this.#run(injection, true);
  }

  async close(): Promise<void> {
    const scene = this.#scene;
    this.#scene = undefined;
    await scene?.close();
  }

  async #run(injection: Injection | undefined, show = false): Promise<Outcome> {
    this.#scene ??= await Scene.open(this.#options);
    const outcome = await this.#scene.run(injection, show);
    if (outcome.problems.length > 0) await this.close();
    return { ...outcome, problems: outcome.problems.filter((problem) => !this.usual.has(problem)) };
  }
}
