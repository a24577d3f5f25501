/** The loop over a target that takes bytes. */
import { Coverage } from './coverage.ts';
import { type InputTarget, mutateInput, tryInput, tryInputTimed } from './inputs.ts';
import type { FuzzOptions } from './options.ts';
import { Random } from './random.ts';
import { reduceBytes } from './reduce.ts';
import { Report } from './report.ts';
import { Store } from './store.ts';

const EMPTY = Buffer.alloc(0);
/** Coverage is looked at for every batch in the beginning, and then ever more rarely. */
const COVERAGE_MOST_APART = 1024;

/** What two complaints have in common when they have one cause. */
export function kindOf(complaint: string): string {
  return complaint.replace(/[0-9]+|'[^' ]*'/g, '#').slice(0, 60);
}

/** A finding about bytes, as its file holds it. */
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
  const kinds = new Map<string, number>();
  const coverage = new Coverage(options.root);

  const judge = (input: Buffer, complaint: string): void => {
    const kind = kindOf(complaint);
    const known = kinds.get(kind);
    if (known !== undefined) {
      const finding = report.summary.findings[known];
      if (finding !== undefined) finding.times++;
      return;
    }
    kinds.set(kind, report.summary.findings.length);
    const shorter = reduceBytes(input, (bytes) => kindOf(tryInputTimed(target, bytes) ?? '') === kind);
    const finding: InputFinding = {
      target: target.name,
      complaint,
      seed: options.seed,
      input: shorter.toString('base64'),
    };
    report.found(
      `${target.name}: ${complaint}`,
      findings.add(`${JSON.stringify(finding, null, 2)}\n`, target.name, '.json'),
    );
  };

  for (const input of corpus) {
    const complaint = tryInputTimed(target, input);
    if (complaint !== null) judge(input, complaint);
  }
  coverage.take();
  const { batch: size } = target;
  let apart = 1;
  /** Made again from the same numbers rather than kept, for most inputs are looked at once. */
  const make = (at: number): Buffer => {
    const numbers = new Random(options.seed, at);
    const base = numbers.pick(pool) ?? EMPTY;
    return mutateInput(base, numbers.pick(pool) ?? base, target, numbers);
  };
  let pool = [...corpus];
  for (let batch = 0; !options.enough(report.summary.runs, report.seconds); batch++) {
    const start = report.summary.runs;
    const cpu = process.cpuUsage();
    for (let at = start; at < start + size; at++) {
      const input = make(at);
      const complaint = tryInput(target, input);
      if (complaint !== null) judge(Buffer.from(input), complaint);
    }
    report.summary.runs += size;
    // A slow input shows in its batch; then each is looked at.
    if (process.cpuUsage(cpu).user > 400_000) {
      for (let at = start; at < start + size; at++) {
        const input = Buffer.from(make(at));
        const complaint = tryInputTimed(target, input);
        if (complaint !== null) judge(input, complaint);
      }
    }
    if (batch % apart === 0) {
      const mark = coverage.mark();
      if (coverage.take() > 0) {
        const seen = coverage.mark();
        const before = corpus.length;
        coverage.rewind(mark);
        const runs = (from: number, to: number): void => {
          for (let at = from; at < to; at++) tryInput(target, make(at));
        };
        for (const at of coverage.bisect(start, start + size, runs)) {
          const input = Buffer.from(make(at));
          corpus.push(input);
          store.add(input, target.name, '');
        }
        pool = [...corpus];
        coverage.restore(seen);
        apart = corpus.length > before ? Math.max(1, apart >> 1) : Math.min(apart * 2, COVERAGE_MOST_APART);
      } else apart = Math.min(apart * 2, COVERAGE_MOST_APART);
      report.summary.coveredBlocks = coverage.blocks;
      report.summary.corpus = corpus.length;
    }
    if (batch % 8 === 0 || apart === 1) {
      report.show();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return report;
}
