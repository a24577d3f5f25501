/** What runs in the browser. It sets values as text only, never as markup. */

export const SCRIPT = `
'use strict';
const sections = {
  locks: {
    title: 'Locks',
    caption: 'The files that are locked, and the guests that hold them.',
    none: 'No guest holds a lock. libvirtd asks for one when it starts a guest, with lock_manager = "lockd" in /etc/libvirt/qemu.conf.',
  },
  refusals: {
    title: 'Refusals',
    caption: 'The guests that were refused a lock, the last one first.',
    none: 'No lock was refused. If a guest did not start nevertheless: with plain disks QEMU checks the image before the daemon is asked, and its error is in the log of the guest.',
  },
  clients: {
    title: 'Clients',
    caption: 'The connections to the daemon, and the guests that they are for.',
    none: 'No client is connected. libvirtd connects once for each running guest.',
  },
  lockspaces: {
    title: 'Lockspaces',
    caption: 'The directories whose files are locked for disks or leases.',
    none: 'The daemon has not listed its lockspaces yet.',
  },
};
const keys = Object.keys(sections);
const byId = (id) => document.getElementById(id);
const orders = new Map();
const shown = new Map();
function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
function cellText(cell) {
  if (typeof cell === 'string') return cell;
  return cell === 0 ? 'unknown' : new Date(cell).toLocaleString();
}
function heading(key, text, column) {
  const order = orders.get(key);
  const button = element('button', text, { type: 'button', id: key + '-' + column });
  button.addEventListener('click', () => {
    const now = orders.get(key);
    const descending = now !== undefined && now.column === column && !now.descending;
    orders.set(key, { column, descending });
    update();
  });
  const sort = order === undefined || order.column !== column ? 'none' : order.descending ? 'descending' : 'ascending';
  const head = element('th', undefined, { scope: 'col', 'aria-sort': sort });
  head.append(button);
  return head;
}
// Roles are given as well, because a phone's layout takes them from a table.
function rowOf(headings, { cells, warn }) {
  const row = element('tr', undefined, { role: 'row', class: warn ? 'warn' : '' });
  for (const [column, cell] of cells.entries()) {
    const text = cellText(cell);
    const attributes = { 'data-label': headings[column], class: text.length > 36 ? 'long' : '' };
    row.append(column === 0
      ? element('th', text, { ...attributes, scope: 'row', role: 'rowheader' })
      : element('td', text, { ...attributes, role: 'cell' }));
  }
  return row;
}
function tableOf(key, { headings, rows }) {
  const table = element('table', undefined, { role: 'table' });
  table.append(element('caption', sections[key].caption));
  const head = element('tr', undefined, { role: 'row' });
  for (const [column, text] of headings.entries()) head.append(heading(key, text, column));
  const thead = element('thead', undefined, { role: 'rowgroup' });
  thead.append(head);
  const body = element('tbody', undefined, { role: 'rowgroup' });
  body.append(...rows.map((row) => rowOf(headings, row)));
  table.append(thead, body);
  const scroll = element('div', undefined, { class: 'scroll' });
  scroll.append(table);
  return scroll;
}
function countText({ rows, total, found, note }) {
  const parts = [found === total ? String(total) : found + ' of ' + total];
  if (rows.length < found) parts.push('the first ' + rows.length + ' shown');
  if (note !== '') parts.push(note);
  return parts.join(', ');
}
// What has not changed stays, with the focus and the selection in it.
function showTable(key, table, search) {
  const text = JSON.stringify([table, search, orders.get(key)]);
  if (shown.get(key) === text) return;
  shown.set(key, text);
  const focused = document.activeElement === null ? '' : document.activeElement.id;
  const title = element('h2', sections[key].title + ' ');
  title.append(element('small', countText(table)));
  const none = table.total === 0 ? sections[key].none : 'Nothing matches the search.';
  byId(key).replaceChildren(title, table.rows.length === 0 ? element('p', none, { class: 'none' }) : tableOf(key, table));
  byId('to-' + key).textContent = sections[key].title + ' ' + table.total;
  if (focused.startsWith(key + '-')) byId(focused)?.focus();
}
function setText(id, text) {
  // An unchanged text is not announced again.
  if (byId(id).textContent !== text) byId(id).textContent = text;
}
function findingOf({ severity, title, items, more, advice, commands }) {
  const box = element('div', undefined, { class: 'finding ' + severity });
  box.append(element('strong', severity + ': ' + title));
  const list = element('ul');
  list.append(...items.map((text) => element('li', text)));
  if (more > 0) list.append(element('li', 'and ' + more + ' more: virt-lockctl health --all'));
  if (list.childElementCount > 0) box.append(list);
  if (advice !== '') box.append(element('p', 'Way out: ' + advice));
  if (commands.length > 0) box.append(element('pre', commands.join('\\n')));
  return box;
}
function showHealth(health) {
  byId('verdict').hidden = health === null;
  if (health === null) return byId('findings').replaceChildren();
  setText('verdict', health.verdict.toUpperCase() + ': ' + health.summary + '.');
  byId('verdict').className = health.verdict;
  byId('findings').replaceChildren(...health.findings.map(findingOf));
}
function show({ failure, readAt, status, health, tables }, search) {
  const read = readAt === 0 ? 'never' : new Date(readAt).toLocaleTimeString();
  live(failure === null ? 'live' : 'the daemon does not answer', failure === null);
  setText('read', readAt === 0 ? '' : 'read at ' + read);
  const old = readAt === 0 ? '' : '\\nThe tables are from ' + read + ', and may be wrong by now.';
  setText('failure', failure === null ? '' : failure + old);
  byId('failure').hidden = failure === null;
  document.body.className = failure === null ? '' : 'stale';
  byId('status').replaceChildren(...status.map(([label, value]) => {
    const pair = element('div');
    pair.append(element('dt', label), element('dd', value));
    return pair;
  }));
  showHealth(health);
  for (const key of keys) showTable(key, tables[key], search);
}
function live(text, good) {
  setText('live', text);
  byId('live').className = good ? 'good' : 'bad';
  document.title = (good ? '' : 'NOT LIVE: ') + document.body.dataset.title;
}
let asked = 0;
async function refresh() {
  const own = ++asked;
  const search = byId('search').value;
  const parameters = new URLSearchParams({ search });
  for (const [key, { column, descending }] of orders) parameters.append(key, (descending ? '-' : '') + column);
  const answer = await fetch('state?' + parameters);
  if (!answer.ok) throw new Error(answer.statusText);
  const state = await answer.json();
  // Answers may arrive out of order.
  if (own === asked) show(state, search);
}
const lost = () => {
  live('virt-lockctl serve does not answer', false);
  document.body.className = 'stale';
};
const update = () => refresh().catch(lost);
for (const key of keys) {
  const link = element('a', sections[key].title, { href: '#' + key, id: 'to-' + key });
  byId('sections').append(link);
  byId('tables').append(element('section', undefined, { id: key, 'aria-label': sections[key].title }));
}
byId('search').addEventListener('input', update);
const events = new EventSource('events');
events.onerror = lost;
events.onmessage = update;
`;
