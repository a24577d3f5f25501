/** A report as one self-contained HTML page. */
import { chartSvg, escapeText } from './charts.ts';
import type { Chart, Report, Section } from './report.ts';

const style = `
:root { color-scheme: light dark; --line: #8884; --text: light-dark(#222, #ddd); --back: light-dark(#fff, #16181b) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100% }
.wide { overflow-x: auto }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; width: min(34rem, 100%); vertical-align: top }
figcaption { font-size: 13px }
svg { width: 100%; font: 12px system-ui, sans-serif }
svg text { fill: var(--text) }
.grid { stroke: var(--line) }
.missed { color: #c0271d; font-weight: 600 }
`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string): string =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="wide"><table>${row(head, 'th')}${rows.map((cells) => row(cells, 'td')).join('')}</table></div>`;
}

function figure(chart: Chart): string {
  const svg = chartSvg(chart);
  return svg === ''
    ? ''
    : `<figure><figcaption>${escapeText(chart.title)} (${escapeText(chart.unit)})</figcaption>${svg}</figure>`;
}

function section(part: Section): string {
  const verdicts = part.verdicts.map((verdict) => [
    verdict.what,
    verdict.wanted,
    verdict.reached,
    verdict.passed ? 'reached' : 'MISSED',
  ]);
  const judged =
    verdicts.length === 0 ? '' : `<h3>Targets</h3>${table(['target', 'wanted', 'measured', ''], verdicts)}`;
  return `<h2 id="${part.id}">${escapeText(part.title)}</h2><p>${escapeText(part.note)}</p>
${part.charts.map(figure).join('\n')}
${judged.replaceAll('<td>MISSED</td>', '<td class="missed">MISSED</td>')}
${table(part.head, part.rows)}`;
}

export function reportPage(report: Report): string {
  const facts = Object.entries({ ...report.machine, ...report.options }).map(([name, value]) => [name, value]);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeText(report.title)}</title><style>${style}</style></head>
<body><h1>${escapeText(report.title)}</h1><p>${escapeText(report.taken)}</p>
${table(['', ''], facts)}
${report.sections.map(section).join('\n')}
</body></html>
`;
}
