'use strict';
// Runs in the page that page.ts makes. The data is what other programs said: it is only ever set as text.
{
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('data').textContent);

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  const sideOf = ([text, meaning]) => {
    const made = element('td', {}, text);
    if (meaning) made.append(element('div', { class: 'meaning' }, meaning));
    return made;
  };

  const linesOf = (lines) => {
    const head = element('tr', {}, element('th', {}, 'expected'), element('th', {}, 'seen'));
    const body = lines.map(([expected, seen]) =>
      element('tr', expected[0] === seen[0] ? {} : { class: 'differs' }, sideOf(expected), sideOf(seen)),
    );
    return element('table', { class: 'lines' }, element('thead', {}, head), element('tbody', {}, ...body));
  };

  const reasonOf = ({ id, text }) =>
    element('div', { class: 'reason' }, element('b', {}, id), element('span', {}, text));

  const failureOf = (failure, open) => {
    const label = element('summary', {}, `${failure.id ?? 'unexplained'} `, element('code', {}, failure.name));
    const details = element('details', open ? { open: '' } : {}, label, element('div', {}, failure.promise));
    if (failure.detail) details.append(element('pre', {}, failure.detail));
    if (failure.lines) details.append(linesOf(failure.lines));
    if (failure.seen && failure.seen.length > 0) details.append(element('pre', {}, failure.seen.join('\n')));
    return details;
  };

  const listOf = (title, checks) => {
    const items = checks.map(({ name, promise, detail }) =>
      element('li', {}, element('code', {}, name), ` ${promise}${detail ? ` (${detail})` : ''}`),
    );
    const label = element('summary', {}, `${checks.length} ${title}`);
    return element('details', {}, label, element('ul', { class: 'checks' }, ...items));
  };

  const show = (cell, button) => {
    for (const other of document.querySelectorAll('#matrix button')) {
      other.setAttribute('aria-pressed', String(other === button));
    }
    const behind = byId('behind');
    behind.hidden = false;
    behind.replaceChildren(element('h2', {}, cell.title));
    if (cell.sides.length > 0) behind.append(element('p', { class: 'soft' }, cell.sides.join(', asked by ')));
    if (cell.broken) behind.append(element('pre', {}, cell.broken));
    behind.append(...data.reasons.filter(({ id }) => cell.ids.includes(id)).map(reasonOf));
    cell.failures.forEach((failure, index) => behind.append(failureOf(failure, index === 0)));
    for (const [verdict, title] of [
      ['skip', 'not made'],
      ['pass', 'passed'],
    ]) {
      const checks = cell.others.filter((check) => check.verdict === verdict);
      if (checks.length > 0) behind.append(listOf(title, checks));
    }
  };

  const buttonOf = (cell) => {
    const all = cell.passed + cell.failures.length;
    const button = element('button', { type: 'button', class: cell.colour, 'aria-pressed': 'false' });
    button.setAttribute('title', cell.title);
    const unexplained = cell.failures.some(({ id }) => id === undefined) ? ['?'] : [];
    const why = [...cell.ids, ...unexplained].join(' ');
    if (cell.colour === 'none') button.append('–');
    else button.append(cell.failures.length === 0 ? String(all) : `${cell.passed}/${all}`, element('small', {}, why));
    button.addEventListener('click', () => show(cell, button));
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
  ]) {
    const reasons = data.reasons.filter((reason) => reason.kind === kind);
    if (reasons.length > 0) byId('reasons').append(element('h2', {}, title), ...reasons.map(reasonOf));
  }
}
