/** The report as one HTML document without other files. */
import type { Result } from '../check.ts';
import { decoded } from './decode.ts';
import { differences } from './differences.ts';
import { SCRIPT, STYLE } from './page.ts';
import { type Report, totals, versionText } from './report.ts';

/** A line of an exchange for the page: mark, text, and its meaning in words. */
type Row = readonly [mark: string, text: string, meaning?: string];

const row = (mark: string, text: string): Row => {
  const meaning = decoded(text);
  return meaning === undefined ? [mark, text] : [mark, text, meaning];
};

function rowsOf({ verdict, expected, seen }: Result): readonly Row[] {
  if (verdict !== 'fail' || expected === undefined) return seen.map((line) => row(' ', line));
  return differences(expected, seen).map(({ mark, text }) => row(mark, text));
}

export function htmlReport(report: Report): string {
  const { results, ...head } = report;
  const data = {
    ...head,
    claims: versionText(report.claims),
    totals: totals(results),
    results: results.map((result) => {
      const { name, group, promise, verdict, detail, known, time } = result;
      // A mere difference is visible in the lines.
      const said = result.expected !== undefined && detail?.startsWith('line ') === true ? undefined : detail;
      return {
        name,
        group,
        promise,
        verdict,
        detail: said,
        known,
        time,
        rows: rowsOf(result),
        compared: result.expected !== undefined,
      };
    }),
  };
  // The data must not end the script element.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>virtlockd-conformance</title>
<style>${STYLE}</style>
<header><h1>virtlockd-conformance</h1><p id="about"></p></header>
<table id="summary"></table>
<p id="controls"><input id="search" type="search" placeholder="Search names and promises" aria-label="Search"><span id="shown"></span></p>
<main id="checks"></main>
<script type="application/json" id="data">${json}</script>
<script>${SCRIPT}</script>
</html>
`;
}
