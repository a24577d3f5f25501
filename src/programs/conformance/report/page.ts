/** Style and script of the HTML report. Values are only ever set as text, never as markup. */

export const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --soft: color-mix(in srgb, currentColor 62%, transparent);
  --pass: #1a7f37; --fail: #cf222e; --known: #9a6700; --skip: #6e7781; --minus: rgb(207 34 46 / 14%); --plus: rgb(26 127 55 / 15%); }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 16px 24px; }
h1 { font-size: 20px; margin: 0; }
#about { color: var(--soft); margin: 2px 0 14px; }
#summary { border-collapse: collapse; }
#summary th, #summary td { border: 1px solid var(--line); padding: 3px 10px; text-align: right; font-variant-numeric: tabular-nums; }
#summary th:first-child { text-align: left; }
#summary button { background: none; border: 0; color: inherit; cursor: pointer; font: inherit; padding: 0 4px; width: 100%; text-align: inherit; }
#summary button:disabled { color: var(--soft); cursor: default; opacity: .5; }
#summary td.chosen, #summary th.chosen { outline: 2px solid currentColor; outline-offset: -2px; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .known { color: var(--known); } .skip { color: var(--skip); }
#controls { align-items: baseline; display: flex; gap: 16px; margin: 16px 0 8px; }
#search { font: inherit; padding: 4px 8px; width: min(360px, 100%); }
#shown { color: var(--soft); }
h2 { font-size: 15px; margin: 18px 0 4px; }
.check > button { align-items: baseline; background: none; border: 0; border-bottom: 1px solid var(--line); color: inherit; cursor: pointer;
  display: grid; font: inherit; gap: 12px; grid-template-columns: 4em minmax(18em, 28em) 1fr 5em; padding: 4px 2px; text-align: left; width: 100%; }
.check > button:hover { background: color-mix(in srgb, currentColor 6%, transparent); }
.verdict { font-weight: 700; }
.name { font-family: ui-monospace, monospace; font-size: 12.5px; overflow-wrap: anywhere; }
.promise { overflow-wrap: anywhere; }
.time { color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.detail { border-left: 3px solid var(--line); margin: 6px 0 14px 4.5em; padding: 2px 0 2px 12px; }
.detail p { margin: 2px 0 8px; white-space: pre-line; }
.detail table { border-collapse: collapse; table-layout: fixed; width: 100%; }
.detail th { color: var(--soft); font-weight: 600; text-align: left; width: 50%; }
.detail td { border-top: 1px solid var(--line); font-family: ui-monospace, monospace; font-size: 12px; overflow-wrap: anywhere; padding: 1px 10px 1px 4px; vertical-align: top; white-space: pre-wrap; }
.detail td.minus { background: var(--minus); } .detail td.plus { background: var(--plus); }
.detail small { color: var(--soft); display: block; font: 12px/1.35 system-ui, sans-serif; padding-left: 1.5em; }
@media (max-width: 900px) { .check > button { grid-template-columns: 4em 1fr; } .promise { grid-column: 2; } .time { display: none; } .detail { margin-left: 0; } }
`;

export const SCRIPT = `
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const verdicts = ['pass', 'fail', 'known', 'skip'];
const titles = { pass: 'passed', fail: 'failed', known: 'known defects', skip: 'skipped' };
const verdictOf = (result) => (result.known === undefined ? result.verdict : 'known');
const groups = [...new Set(data.results.map((result) => result.group))];
let chosenGroup;
let chosenVerdict;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

byId('about').textContent = data.daemon + ', which claims libvirt ' + data.claims + '; ' +
  (data.against === undefined ? 'judged by the recordings of ' + data.generation : 'compared with ' + data.against) +
  '. ' + data.results.length + ' checks in ' + (data.time / 1000).toFixed(1) + ' s, ' + data.started.slice(0, 19).replace('T', ' ') + ' UTC.';

function choose(group, verdict) {
  const again = chosenGroup === group && chosenVerdict === verdict;
  chosenGroup = again ? undefined : group;
  chosenVerdict = again ? undefined : verdict;
  draw();
}

function cell(tag, text, group, verdict, enabled) {
  const made = element(tag, undefined, verdict);
  if (group === chosenGroup && verdict === chosenVerdict && (group || verdict)) made.classList.add('chosen');
  const button = element('button', text);
  button.disabled = !enabled;
  button.addEventListener('click', () => choose(group, verdict));
  made.append(button);
  return made;
}

function drawSummary() {
  const table = byId('summary');
  table.replaceChildren();
  const head = table.createTHead().insertRow();
  head.append(cell('th', 'all', undefined, undefined, true));
  for (const verdict of verdicts) head.append(cell('th', titles[verdict], undefined, verdict, true));
  const body = table.createTBody();
  for (const group of groups) {
    const line = body.insertRow();
    line.append(cell('th', group, group, undefined, true));
    for (const verdict of verdicts) {
      const count = data.results.filter((result) => result.group === group && verdictOf(result) === verdict).length;
      line.append(cell('td', String(count), group, verdict, count > 0));
    }
  }
}

function line(text, meaning, className) {
  const made = element('td', text, className);
  if (meaning !== undefined) made.append(element('small', meaning));
  return made;
}

function exchange(result) {
  const table = element('table');
  const head = table.createTHead().insertRow();
  const differ = result.compared && result.verdict === 'fail';
  if (!differ) {
    head.append(element('th', result.compared ? 'Expected and seen' : 'Seen'));
    for (const [, text, meaning] of result.rows) table.insertRow().append(line(text, meaning));
    return table;
  }
  head.append(element('th', data.against === undefined ? 'Expected' : data.against), element('th', 'Seen'));
  let minus = [];
  let plus = [];
  const flush = () => {
    for (let at = 0; at < Math.max(minus.length, plus.length); at++) {
      const made = table.insertRow();
      made.append(minus[at] ?? element('td'), plus[at] ?? element('td'));
    }
    minus = [];
    plus = [];
  };
  for (const [mark, text, meaning] of result.rows) {
    if (mark === '-') minus.push(line(text, meaning, 'minus'));
    else if (mark === '+') plus.push(line(text, meaning, 'plus'));
    else {
      flush();
      table.insertRow().append(line(text, meaning), line(text, meaning));
    }
  }
  flush();
  return table;
}

function detail(result) {
  const made = element('div', undefined, 'detail');
  made.append(element('p', result.promise));
  if (result.known !== undefined) made.append(element('p', 'Known defect: ' + result.known, 'known'));
  if (result.detail !== undefined) made.append(element('p', result.detail, result.verdict));
  if (result.rows.length > 0) made.append(exchange(result));
  return made;
}

function check(result) {
  const made = element('div', undefined, 'check');
  const button = element('button');
  const verdict = verdictOf(result);
  button.append(element('span', verdict, 'verdict ' + verdict), element('span', result.name, 'name'),
    element('span', result.promise, 'promise'), element('span', result.time + ' ms', 'time'));
  button.setAttribute('aria-expanded', 'false');
  button.addEventListener('click', () => {
    const opened = made.querySelector('.detail');
    if (opened) opened.remove();
    else made.append(detail(result));
    button.setAttribute('aria-expanded', String(!opened));
  });
  made.append(button);
  return made;
}

function draw() {
  drawSummary();
  const words = byId('search').value.toLowerCase().split(/\\s+/);
  const shown = data.results.filter((result) =>
    (chosenGroup === undefined || result.group === chosenGroup) &&
    (chosenVerdict === undefined || verdictOf(result) === chosenVerdict) &&
    words.every((word) => (result.name + ' ' + result.promise).toLowerCase().includes(word)));
  byId('shown').textContent = shown.length + ' of ' + data.results.length;
  const main = byId('checks');
  main.replaceChildren();
  for (const group of groups) {
    const members = shown.filter((result) => result.group === group);
    if (members.length > 0) main.append(element('h2', group), ...members.map(check));
  }
}

byId('search').addEventListener('input', draw);
draw();
`;
