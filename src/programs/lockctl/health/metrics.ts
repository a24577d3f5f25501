/** The verdict for Prometheus. */
import { type Health, type Kind, KINDS } from './findings.ts';

const VERDICTS = { ok: 0, warning: 1, error: 2 } as const;

type Sample = readonly [labels: string, value: number];

/** As the metrics of ../metrics.ts. Every kind has a sample, so that an alert can distinguish "none" from "not measured". */
export function healthMetrics({
  verdict,
  findings,
}: Health): (readonly [string, 'gauge', string, number | readonly Sample[]])[] {
  const counts = new Map(findings.map(({ kind, count }) => [kind, count]));
  const samples = (Object.keys(KINDS) as Kind[]).map((kind): Sample => [
    `{severity="${KINDS[kind]}",kind="${kind}"}`,
    counts.get(kind) ?? 0,
  ]);
  return [
    ['virtlockd_verdict', 'gauge', 'Whether the host is safe: 0 yes, 1 warnings, 2 errors.', VERDICTS[verdict]],
    ['virtlockd_findings', 'gauge', "Findings of 'virt-lockctl health'.", samples],
  ];
}
