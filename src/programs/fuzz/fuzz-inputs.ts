/** The loop over inputs of bytes. */
import { setImmediate as turn } from 'node:timers/promises';
import { branchesCovered } from './coverage.ts';
import { type InputTarget, mutateInput, tryInput, tryInputTimed } from './inputs.ts';
import type { FuzzOptions } from './options.ts';
import { Random } from './random.ts';
import { reduceList } from './reduce.ts';
import { Report } from './report.ts';
import { Store } from './store.ts';

const EMPTY = Buffer.alloc(0);
const random = new Random(0);
/** Batches between two turns of the event loop. */
const SHOW_EVERY = 8;

/** Processor time of a batch, in µs, above which one of its inputs may be slow. */
const SLOW_BATCH_US = 400_000;

/** The part of a complaint that is the same for every complaint of one cause. */
export function kindOf(complaint: string): string {
  return complaint.replace(/[0-9]+|'[^' ]*'/g, '#').slice(0, 60);
}

/** A finding of bytes, as in its file. */
export interface InputFinding {
  readonly target: string;
  readonly complaint: string;
  readonly seed: number;
  /** The reduced input, base64. */
  readonly input: string;
}

export async function fuzzInputs(target: InputTarget, options: FuzzOptions): Promise<Report> {
  const report = new Report(target.name, options.seed, options.quiet);
  const store = new Store(options.corpus);
  const findings = new Store(options.findings);
  const corpus = [...target.seeds, ...store.load()];

  const judge = async (input: Buffer, complaint: string): Promise<void> => {
    const kind = kindOf(complaint);
    if (report.isKnown(kind)) return;
    const shows = (bytes: readonly number[]): boolean =>
      kindOf(tryInputTimed(target, Buffer.from(bytes)) ?? '') === kind;
    const shorter = Buffer.from(await reduceList([...input], shows, 2000));
    const finding: InputFinding = {
      target: target.name,
      complaint,
      seed: options.seed,
      input: shorter.toString('base64'),
    };
    const text = `${JSON.stringify(finding, null, 2)}\n`;
    report.found(kind, `${target.name}: ${complaint}`, findings.add(text, target.name, '.json'));
  };

  for (const input of corpus) {
    const complaint = tryInputTimed(target, input);
    if (complaint !== null) await judge(input, complaint);
  }
  const { batch: size } = target;
  const { summary } = report;
  /** Makes the input of a run from its number, so that it can be made again. */
  const make = (at: number, pool: readonly Buffer[]): Buffer => {
    random.reset(options.seed, at);
    const base = random.pick(pool) ?? EMPTY;
    return mutateInput(base, random.pick(pool) ?? base, target, random);
  };
  let covered = branchesCovered();
  for (let batch = 0; !options.enough(summary.runs, report.seconds); batch++) {
    const start = summary.runs;
    const pool = [...corpus];
    const cpu = process.cpuUsage();
    for (let at = start; at < start + size; at++) {
      const input = make(at, pool);
      const complaint = tryInput(target, input);
      if (complaint !== null) await judge(Buffer.from(input), complaint);
      if (branchesCovered() === covered) continue;
      covered = branchesCovered();
      const kept = Buffer.from(input);
      corpus.push(kept);
      store.add(kept, target.name, '');
    }
    summary.runs += size;
    // Some input of this batch was slow: each is timed.
    if (process.cpuUsage(cpu).user > SLOW_BATCH_US) {
      for (let at = start; at < start + size; at++) {
        const input = Buffer.from(make(at, pool));
        const complaint = tryInputTimed(target, input);
        if (complaint !== null) await judge(input, complaint);
      }
    }
    if (batch % SHOW_EVERY !== 0) continue;
    summary.coveredBranches = covered;
    summary.corpus = corpus.length;
    report.show();
    await turn();
  }
  summary.coveredBranches = covered;
  summary.corpus = corpus.length;
  return report;
}
