/** A report as text for a terminal. */
import type { Report, Section, Verdict } from './report.ts';

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

const verdictRow = (verdict: Verdict): string[] => [
  verdict.passed ? 'reached' : 'MISSED',
  verdict.what,
  verdict.wanted,
  verdict.reached,
];

export function sectionText(section: Section): string {
  const parts = [`## ${section.title}\n`, `${section.note}\n`, table(section.head, section.rows)];
  if (section.verdicts.length > 0) {
    parts.push('', table(['', 'target', 'wanted', 'measured'], section.verdicts.map(verdictRow)));
  }
  return `${parts.join('\n')}\n`;
}

export function headText(report: Omit<Report, 'sections'>): string {
  const facts = { ...report.machine, ...report.options };
  const lines = Object.entries(facts).map(([name, value]) => `${name}: ${value}`);
  return `# ${report.title}\n\n${report.taken}\n${lines.join('\n')}\n`;
}
