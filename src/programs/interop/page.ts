/** The matrix as one HTML page without other files. Values are only ever set as text, never as markup. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { transformSync } from 'esbuild';
import { decoded } from '../conformance/report/decode.ts';
import { differences } from '../conformance/report/differences.ts';
import type { Failure, Judgement, JudgedCell } from './judgement.ts';
import { type Column, columnTitle, families, partsOf, rowTitle } from './model.ts';
import type { Family, Line, PageData, ShownCell, ShownFailure } from './page/data.ts';

const read = (name: string): string => readFileSync(join(import.meta.dirname, 'page', name), 'utf8');

function line(text = ''): Line {
  const meaning = decoded(text);
  return meaning === undefined ? [text] : [text, meaning];
}

function sideBySide(expected: readonly string[], seen: readonly string[]): ShownFailure['lines'] {
  const pairs: [Line, Line][] = [];
  let gone: string[] = [];
  let come: string[] = [];
  const flush = (): void => {
    for (let i = 0; i < Math.max(gone.length, come.length); i++) pairs.push([line(gone[i]), line(come[i])]);
    [gone, come] = [[], []];
  };
  for (const { mark, text } of differences(expected, seen)) {
    if (mark === '-') gone.push(text);
    else if (mark === '+') come.push(text);
    else {
      flush();
      pairs.push([line(text), line(text)]);
    }
  }
  flush();
  return pairs;
}

const failureOf = ({ check, id }: Failure): ShownFailure => {
  const { name, promise, detail, expected, seen } = check;
  const lines = expected === undefined ? undefined : sideBySide(expected, seen ?? []);
  return { name, promise, id, lines, detail: lines === undefined ? detail : undefined, seen: lines ? undefined : seen };
};

const cellOf = ({ row, column, cell, colour, passed, failures, ids }: JudgedCell): ShownCell => ({
  row,
  column,
  title: `${rowTitle(row)} × ${columnTitle(column)}`,
  colour,
  passed,
  ids,
  broken: cell === undefined ? 'It was not run.' : cell.broken,
  sides: cell?.sides.map((side) => side.replace(/ [0-9a-f]{16}/g, '')) ?? [],
  failures: failures.map(failureOf),
  others: (cell?.checks ?? [])
    .filter(({ verdict }) => verdict !== 'fail')
    .map(({ name, promise, verdict, detail }) => ({ name, promise, verdict, detail })),
});

/** The columns of a judgement, by family. */
function headsOf(columns: readonly Column[]): Family[] {
  return Object.keys(families)
    .map((name) => ({ name, columns: columns.filter((column) => partsOf(column).family === name) }))
    .filter((family) => family.columns.length > 0)
    .map(({ name, columns: some }) => ({
      name,
      columns: some.map((column) => ({ column, title: partsOf(column).generation ?? column })),
    }));
}

const hashed = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

export function page({ cells, reasons }: Judgement): string {
  const columns = [...new Set(cells.map(({ column }) => column))];
  const rows = [...new Set(cells.map(({ row }) => row))].map((row) => ({ row, title: rowTitle(row) }));
  const data: PageData = { families: headsOf(columns), rows, reasons, cells: cells.map(cellOf) };
  // The data must not end its element.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  const style = read('style.css');
  const { code: script } = transformSync(read('script.ts'), { loader: 'ts', format: 'iife' });
  const policy = `default-src 'none'; style-src ${hashed(style)}; script-src ${hashed(script)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width">
<title>virtlockd: which works with which</title>
<style>${style}</style>
</head>
<body>
<h1>Which lock daemon works with which libvirt</h1>
<p>A row is a lock daemon, a column a kind of checks. A cell counts the checks that passed of those that were run, and names
the cause of the others: <b>D</b> a known defect of the daemon, <b>R</b> a difference between releases. Choose a cell to see its
checks.</p>
<table id="matrix"></table>
<section id="behind" hidden></section>
<section id="reasons"></section>
<script type="application/json" id="data">${json}</script>
<script>${script}</script>
</body>
</html>
`;
}
