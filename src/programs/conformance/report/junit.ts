/** The report as JUnit XML, for build servers. */
import { failureText } from './text.ts';
import { type Report, totals } from './report.ts';
import { groups } from '../check.ts';

/** XML 1.0 allows no control characters, not even escaped. */
function escaped(text: string): string {
  return text
    .replace(/[^\t\n\x20-\ud7ff\ue000-\ufffd]/g, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\n', '&#10;');
}

const seconds = (time: number): string => (time / 1000).toFixed(3);

export function junitReport({ results, time, started, daemon }: Report): string {
  const all = totals(results);
  const counts = (tests: number, { fail, skip }: typeof all): string =>
    `tests="${tests}" failures="${fail}" errors="0" skipped="${skip}"`;
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="${escaped(daemon)}" ${counts(results.length, all)} time="${seconds(time)}">`,
  ];
  for (const group of groups) {
    const members = results.filter((result) => result.group === group);
    if (members.length === 0) continue;
    const spent = members.reduce((sum, result) => sum + result.time, 0);
    lines.push(
      `  <testsuite name="${group}" ${counts(members.length, totals(members))} time="${seconds(spent)}" timestamp="${started.slice(0, 19)}">`,
    );
    for (const result of members) {
      const { name, verdict, detail = '', known } = result;
      const open = `    <testcase classname="${group}" name="${escaped(name)}" time="${seconds(result.time)}"`;
      if (verdict === 'pass') lines.push(`${open}/>`);
      else if (verdict === 'skip')
        lines.push(`${open}>`, `      <skipped message="${escaped(detail)}"/>`, '    </testcase>');
      else {
        const type = known === undefined ? 'failure' : 'known';
        const text = escaped(failureText(result)).replaceAll('&#10;', '\n');
        lines.push(`${open}>`, `      <failure type="${type}" message="${escaped(known ?? detail)}">${text}</failure>`);
        lines.push('    </testcase>');
      }
    }
    lines.push('  </testsuite>');
  }
  return `${lines.join('\n')}\n</testsuites>\n`;
}
