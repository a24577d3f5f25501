/** The report as TAP, version 14. */
import type { Report } from './report.ts';

/** TAP gives `#` and `\` a meaning in descriptions. */
const escaped = (text: string): string => text.replace(/[\\#]/g, '\\$&').replaceAll('\n', ' ');

/** A YAML block of strings; JSON's strings are YAML's. */
function diagnostics(fields: Readonly<Record<string, string | readonly string[] | undefined>>): string[] {
  const lines = ['  ---'];
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === 'string') lines.push(`  ${name}: ${JSON.stringify(value)}`);
    else if (value !== undefined) lines.push(`  ${name}:`, ...value.map((line) => `    - ${JSON.stringify(line)}`));
  }
  return [...lines, '  ...'];
}

export function tapReport({ results, daemon }: Report): string {
  const lines = ['TAP version 14', `1..${results.length}`, `# ${escaped(daemon)}`];
  results.forEach(({ name, promise, verdict, detail, known, expected, seen }, index) => {
    const directive = verdict === 'skip' ? ` # SKIP ${escaped(detail ?? '')}` : '';
    lines.push(`${verdict === 'fail' ? 'not ok' : 'ok'} ${index + 1} - ${escaped(name)}${directive}`);
    if (verdict === 'fail') lines.push(...diagnostics({ promise, detail, known, expected, seen }));
  });
  return `${lines.join('\n')}\n`;
}
