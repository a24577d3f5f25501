/** The page: one document that loads nothing else. Its script sets values as text only, never as markup. */

const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); --soft: color-mix(in srgb, currentColor 60%, transparent); }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 16px 24px; }
header { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: baseline; }
h1 { font-size: 20px; margin: 0; }
h2 { font-size: 15px; margin: 24px 0 6px; }
h2 small { color: var(--soft); font-weight: normal; }
#live { color: #1a7f37; }
#live.lost { color: #cf222e; }
#search { margin-left: auto; font: inherit; padding: 4px 8px; width: min(340px, 100%); }
dl { display: flex; flex-wrap: wrap; gap: 4px 24px; margin: 14px 0; }
dl div { display: flex; gap: 6px; }
dt { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.warning, #failure { border-left: 3px solid #bf8700; margin: 6px 0; padding: 4px 10px; white-space: pre-line; }
#failure { border-color: #cf222e; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { color: var(--soft); font-weight: 600; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: 3px 12px 3px 0; vertical-align: top; unicode-bidi: isolate; white-space: nowrap; }
td { font-family: ui-monospace, monospace; font-size: 13px; }
td.long { min-width: 16em; overflow-wrap: anywhere; white-space: pre-wrap; }
tr.warn td { color: #bf8700; }
.none { color: var(--soft); }
`;

const SCRIPT = `
'use strict';
const titles = { locks: 'Locks', clients: 'Clients', refusals: 'Refused', lockspaces: 'Lockspaces' };
const times = { locks: 'Since', clients: 'Connected', refusals: 'When' };
const byId = (id) => document.getElementById(id);
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function when(time) {
  return time === 0 ? 'unknown' : new Date(time).toLocaleString();
}
function tableOf(key, { headings, rows, total, found }) {
  const section = element('section');
  section.id = key;
  const title = element('h2', titles[key] + ' ');
  const shown = rows.length < found ? ', the first ' + rows.length + ' shown' : '';
  title.append(element('small', (found === total ? String(total) : found + ' of ' + total) + shown));
  section.append(title);
  if (rows.length === 0) {
    section.append(element('div', 'none', 'none'));
    return section;
  }
  const table = element('table');
  const head = element('tr');
  for (const heading of headings) head.append(element('th', heading));
  if (times[key]) head.append(element('th', times[key]));
  const body = element('tbody');
  for (const { cells, time, warn } of rows) {
    const row = element('tr', undefined, warn ? 'warn' : '');
    for (const cell of cells) row.append(element('td', cell, cell.length > 36 ? 'long' : ''));
    if (times[key]) row.append(element('td', when(time)));
    body.append(row);
  }
  const thead = element('thead');
  thead.append(head);
  table.append(thead, body);
  const scroll = element('div', undefined, 'scroll');
  scroll.append(table);
  section.append(scroll);
  return section;
}
function show({ failure, status, warnings, tables }) {
  byId('failure').textContent = failure || '';
  byId('failure').hidden = failure === null;
  byId('status').replaceChildren(...status.map(([label, value]) => {
    const pair = element('div');
    pair.append(element('dt', label), element('dd', value));
    return pair;
  }));
  byId('warnings').replaceChildren(...warnings.map((text) => element('div', text, 'warning')));
  byId('tables').replaceChildren(...Object.keys(titles).map((key) => tableOf(key, tables[key])));
}
let asked = 0;
async function refresh() {
  const own = ++asked;
  const answer = await fetch('state?search=' + encodeURIComponent(byId('search').value));
  if (!answer.ok) throw new Error(answer.statusText);
  const state = await answer.json();
  // Answers may arrive out of order.
  if (own === asked) show(state);
}
function live(isLive) {
  byId('live').textContent = isLive ? 'live' : 'not connected';
  byId('live').className = isLive ? '' : 'lost';
}
const update = () => refresh().catch(() => live(false));
byId('search').addEventListener('input', update);
const events = new EventSource('events');
events.onopen = () => live(true);
events.onerror = () => live(false);
events.onmessage = update;
`;

/** @param nonce the one in the page's Content-Security-Policy */
export function page(nonce: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>virtlockd</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${STYLE}</style>
</head>
<body>
<header><h1>virtlockd</h1><span id="live" class="lost">not connected</span>
<input id="search" type="search" placeholder="search" aria-label="search" autocomplete="off" autofocus></header>
<div id="failure" hidden></div>
<dl id="status"></dl>
<div id="warnings"></div>
<main id="tables"></main>
<script nonce="${nonce}">${SCRIPT}</script>
</body>
</html>
`;
}
