/** The report as JSON: the fields of `Report`, and the totals. */
import { type Report, totals, versionText } from './report.ts';

export function jsonReport(report: Report): string {
  const { results, claims, ...head } = report;
  const whole = { ...head, claims: versionText(claims), totals: totals(results), results };
  return `${JSON.stringify(whole, undefined, 1)}\n`;
}
