/** A report as Markdown tables, for docs/performance.md. */
import type { Report, Section } from './report.ts';

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function section(part: Section): string {
  const verdicts = part.verdicts.map(({ what, wanted, reached, passed }) => [
    what,
    wanted,
    reached,
    passed ? 'reached' : 'missed',
  ]);
  const parts = [`### ${part.title}`, part.note, table(part.head, part.rows)];
  if (verdicts.length > 0) parts.push(table(['target', 'wanted', 'measured', ''], verdicts));
  return parts.join('\n\n');
}

export function reportMarkdown(report: Report): string {
  const facts = Object.entries({ ...report.machine, ...report.options }).map(([name, value]) => `${name} ${value}`);
  return `${[`Taken ${report.taken}: ${facts.join(', ')}.`, ...report.sections.map(section)].join('\n\n')}\n`;
}
