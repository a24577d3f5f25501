/** Runs in the page that page.ts makes. The data comes from other programs: it is only ever set as text. */
import type { Line, PageData, ShownCell, ShownCheck, ShownFailure, ShownReason } from './data.ts';

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

const data = JSON.parse(byId('data').textContent) as PageData;

const element = (
  name: string,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly (Node | string)[]
): HTMLElement => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const sideOf = ([text, meaning]: Line): HTMLElement => {
  const made = element('td', {}, text);
  if (meaning !== undefined) made.append(element('div', { class: 'meaning' }, meaning));
  return made;
};

const linesOf = (lines: NonNullable<ShownFailure['lines']>): HTMLElement => {
  const head = element('tr', {}, element('th', {}, 'expected'), element('th', {}, 'seen'));
  const body = lines.map(([expected, seen]) =>
    element('tr', expected[0] === seen[0] ? {} : { class: 'differs' }, sideOf(expected), sideOf(seen)),
  );
  return element('table', { class: 'lines' }, element('thead', {}, head), element('tbody', {}, ...body));
};

const reasonOf = ({ id, text }: ShownReason): HTMLElement =>
  element('div', { class: 'reason' }, element('b', {}, id), element('span', {}, text));

const failureOf = (failure: ShownFailure, open: boolean): HTMLElement => {
  const label = element('summary', {}, `${failure.id ?? 'unexplained'} `, element('code', {}, failure.name));
  const details = element('details', open ? { open: '' } : {}, label, element('div', {}, failure.promise));
  if (failure.detail !== undefined) details.append(element('pre', {}, failure.detail));
  if (failure.lines !== undefined) details.append(linesOf(failure.lines));
  if (failure.seen !== undefined && failure.seen.length > 0)
    details.append(element('pre', {}, failure.seen.join('\n')));
  return details;
};

const listOf = (title: string, checks: readonly ShownCheck[]): HTMLElement => {
  const items = checks.map(({ name, promise, detail }) =>
    element('li', {}, element('code', {}, name), ` ${promise}${detail === undefined ? '' : ` (${detail})`}`),
  );
  const label = element('summary', {}, `${checks.length} ${title}`);
  return element('details', {}, label, element('ul', { class: 'checks' }, ...items));
};

const show = (cell: ShownCell, button: HTMLElement): void => {
  for (const other of document.querySelectorAll('#matrix button')) {
    other.setAttribute('aria-pressed', String(other === button));
  }
  const behind = byId('behind');
  behind.hidden = false;
  behind.replaceChildren(element('h2', {}, cell.title));
  if (cell.sides.length > 0) behind.append(element('p', { class: 'soft' }, cell.sides.join(', asked by ')));
  if (cell.broken !== undefined) behind.append(element('pre', {}, cell.broken));
  behind.append(...data.reasons.filter(({ id }) => cell.ids.includes(id)).map(reasonOf));
  behind.append(...cell.failures.map((failure, index) => failureOf(failure, index === 0)));
  for (const [verdict, title] of [
    ['skip', 'not made'],
    ['pass', 'passed'],
  ] as const) {
    const checks = cell.others.filter((check) => check.verdict === verdict);
    if (checks.length > 0) behind.append(listOf(title, checks));
  }
};

const buttonOf = (cell: ShownCell): HTMLElement => {
  const all = cell.passed + cell.failures.length;
  const button = element('button', { type: 'button', class: cell.colour, 'aria-pressed': 'false' });
  button.setAttribute('title', cell.title);
  const unexplained = cell.failures.some(({ id }) => id === undefined) ? ['?'] : [];
  const why = [...cell.ids, ...unexplained].join(' ');
  if (cell.colour === 'none') button.append('–');
  else button.append(cell.failures.length === 0 ? String(all) : `${cell.passed}/${all}`, element('small', {}, why));
  button.addEventListener('click', () => {
    show(cell, button);
  });
  return button;
};

const families = element('tr', {}, element('td'));
const titles = element('tr', {}, element('td'));
for (const { name, columns } of data.families) {
  families.append(element('th', { colspan: String(columns.length) }, name));
  titles.append(...columns.map(({ title }) => element('th', {}, title)));
}
const columns = data.families.flatMap((family) => family.columns.map(({ column }) => column));
const body = data.rows.map(({ row, title }) => {
  const line = element('tr', {}, element('th', {}, title));
  for (const column of columns) {
    const cell = data.cells.find((other) => other.row === row && other.column === column);
    line.append(element('td', {}, ...(cell ? [buttonOf(cell)] : [])));
  }
  return line;
});
byId('matrix').append(element('thead', {}, families, titles), element('tbody', {}, ...body));

for (const [kind, title] of [
  ['defect', 'Defects of the C daemons'],
  ['release', 'Differences between releases'],
] as const) {
  const reasons = data.reasons.filter((reason) => reason.kind === kind);
  if (reasons.length > 0) byId('reasons').append(element('h2', {}, title), ...reasons.map(reasonOf));
}
