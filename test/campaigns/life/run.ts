/** Plays rounds until so many owners have ended, and counts the findings. */
import type { EndFacts } from './facts.ts';
import { Hosts, type Subject } from './hosts.ts';
import { type Finding, isWrongGrant, judge, type Waits, waitsOf } from './judge.ts';
import { nameOf, roundOf, type Way } from './plan.ts';
import { playRound } from './round.ts';

export interface RunOptions {
  readonly subject: Subject;
  readonly seed: number;
  readonly ends: number;
  readonly ways: readonly Way[];
  /** The index of the first round. */
  readonly from: number;
  /** No round begins after that. */
  readonly signal?: AbortSignal;
  readonly onRound?: (report: Report) => void;
}

/** The first finding of its kind in one end, and where it was made: `--from ROUND` plays it again. */
export interface Located extends Finding {
  /** How many of that kind there were in this end. */
  readonly times: number;
  readonly round: number;
  readonly way: string;
}

interface WayReport {
  ends: number;
  /** Ends with a wrong grant. */
  wrong: number;
}

export interface Report {
  readonly daemon: string;
  readonly seed: number;
  ends: number;
  rounds: number;
  /** SIGUSR1 that were followed, while owners ended. */
  restarts: number;
  /** How often the C daemon took over, and gave back, while owners had their locks. */
  swaps: number;
  /** Exclusive grants to rivals. */
  grants: number;
  /** Grants and deletions of a disk whose owner could write. */
  wrongGrants: number;
  /** Ends in which there was one. */
  wrongEnds: number;
  readonly ways: Record<string, WayReport>;
  readonly findings: Located[];
  readonly waits: Waits[];
  seconds: number;
}

function count(report: Report, round: number, facts: EndFacts, isC: boolean): void {
  const way = nameOf(facts.plan.way);
  const findings = judge(facts, isC);
  const wrong = findings.filter(isWrongGrant).length;
  const waits = waitsOf(facts);
  const ofWay = (report.ways[way] ??= { ends: 0, wrong: 0 });
  ofWay.ends++;
  report.ends++;
  report.grants += waits.grants;
  report.wrongGrants += wrong;
  if (wrong > 0) {
    ofWay.wrong++;
    report.wrongEnds++;
  }
  for (const [kind, all] of Map.groupBy(findings, (finding) => finding.kind)) {
    report.findings.push({ kind, detail: all[0]?.detail ?? '', times: all.length, round, way });
  }
  report.waits.push(waits);
}

/** @throws Error when a round could not be played */
export async function run({ subject, seed, ends, ways, from, signal, onRound }: RunOptions): Promise<Report> {
  const began = performance.now();
  const report: Report = {
    daemon: subject.program,
    seed,
    ends: 0,
    rounds: 0,
    restarts: 0,
    swaps: 0,
    grants: 0,
    wrongGrants: 0,
    wrongEnds: 0,
    ways: {},
    findings: [],
    waits: [],
    seconds: 0,
  };
  const hosts = await Hosts.open(subject);
  try {
    for (let index = from; report.ends < ends && signal?.aborted !== true; index++) {
      const { ends: played, restarts, swaps, problems } = await playRound(hosts, roundOf(seed, index, ways));
      report.rounds++;
      report.restarts += restarts;
      report.swaps += swaps;
      for (const facts of played) count(report, index, facts, subject.isC);
      report.findings.push(
        ...problems.map((detail) => ({
          kind: 'went wrong' as const,
          detail,
          times: 1,
          round: index,
          way: 'a restart',
        })),
      );
      report.seconds = Math.round((performance.now() - began) / 1000);
      onRound?.(report);
    }
    return report;
  } finally {
    await hosts.close();
  }
}
