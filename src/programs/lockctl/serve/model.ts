/** The content of the page: the daemon's state as last read, in printable cells. */
import {
  type ClientInfo,
  FileState,
  type LockInfo,
  type LockspaceInfo,
  type StatusInfo,
} from '../../../../xdr/programs/inquire.ts';
import { leaseText } from '../commands/status.ts';
import { CommandError } from '../exit.ts';
import { assess } from '../health/assess.ts';
import type { Group, Health } from '../health/findings.ts';
import type { InquireClient } from '../inquire-client.ts';
import { describeProcess } from '../kernel/holders.ts';
import { count, fileState, holder, isSound, mode, name, type NotedRefusal, owner } from '../output.ts';

/** The page shows this many rows. The search finds the others. */
const MAX_ROWS = 500;

/** A number is a time in milliseconds since 1970, 0 if unknown. The search finds texts only. */
type Cell = string | number;

interface Row {
  readonly cells: readonly Cell[];
  readonly warn: boolean;
}

/** The order of a table's rows. Without one they come as the daemon lists them. */
export interface Order {
  readonly column: number;
  readonly descending: boolean;
}

interface Table {
  readonly headings: readonly string[];
  readonly rows: readonly Row[];
  /** The number of rows, and of those that match the search. */
  readonly total: number;
  readonly found: number;
  /** What the table leaves out; empty if it leaves out nothing. */
  readonly note: string;
}

const HEADINGS = {
  locks: ['VM', 'PID', 'Resource', 'Mode', 'File', 'Lockspace', 'Since', 'UUID'],
  clients: ['Server', 'Id', 'PID', 'Program', 'For', 'Owner PID', 'Locks', 'State', 'Connected'],
  refusals: ['Asked by', 'Resource', 'Mode', 'In the way', 'Answer', 'When'],
  lockspaces: ['Directory', 'Locks', 'State'],
} as const;

export type TableName = keyof typeof HEADINGS;

export function isTableName(text: string): text is TableName {
  return Object.hasOwn(HEADINGS, text);
}

/** As `virt-lockctl health` prints it. */
interface Finding extends Pick<Group, 'severity' | 'title' | 'advice' | 'commands'> {
  readonly items: readonly string[];
  /** The number of those that are not among `items`. */
  readonly more: number;
}

interface Snapshot {
  /** Why the daemon does not answer; null while it does. Then all else is from the last time that it answered. */
  readonly failure: string | null;
  /** When the daemon last answered, in milliseconds since 1970; 0 if it has not. */
  readonly readAt: number;
  readonly status: readonly (readonly [label: string, value: string])[];
  /** The verdict on the host; null if the daemon may not be asked. */
  readonly health: (Pick<Health, 'verdict' | 'summary'> & { readonly findings: readonly Finding[] }) | null;
  readonly tables: Readonly<Record<TableName, Table>>;
}

export class Model {
  private rows: Record<TableName, Row[]> = { locks: [], clients: [], refusals: [], lockspaces: [] };
  /** This process's own connections, which say nothing about guests. */
  private ownClients = 0;
  private status: StatusInfo | null = null;
  /** This host's lease in etcd; null where no lockspace is kept there. */
  private etcd: string | null = null;
  private health: Health | null = null;
  private failure: string | null = 'The daemon has not been asked yet.';
  private readAt = 0;

  /** Reads the whole state. Never throws: the page shows a failure. */
  async read(daemon: InquireClient): Promise<void> {
    try {
      const [status, counters] = [await daemon.status(), await daemon.counters()];
      const clients = await daemon.clients();
      const others = clients.filter(({ pid }) => pid !== process.pid);
      this.rows = {
        locks: (await daemon.locks({}, true)).flatMap(lockRows),
        clients: others.map(clientRow),
        refusals: (await daemon.refusals()).reverse().map(refusalRow),
        lockspaces: (await daemon.lockspaces()).map(lockspaceRow),
      };
      this.ownClients = clients.length - others.length;
      this.health = await assess(daemon);
      this.status = status;
      this.etcd = leaseText(counters);
      this.failure = null;
      this.readAt = Date.now();
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error);
      this.health = error instanceof CommandError ? await assess(daemon, error).catch(() => null) : null;
    }
  }

  /** The rows that match: each word occurs in some cell, in any case. */
  search(text: string, orders: ReadonlyMap<TableName, Order> = new Map()): Snapshot {
    const words = text
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    const table = (key: TableName, note = ''): Table => {
      const rows = this.rows[key];
      const found = words.length === 0 ? rows : rows.filter(({ cells }) => matches(cells, words));
      const ordered = inOrder(found, orders.get(key)).slice(0, MAX_ROWS);
      return { headings: HEADINGS[key], rows: ordered, total: rows.length, found: found.length, note };
    };
    const { status, ownClients } = this;
    return {
      failure: this.failure,
      readAt: this.readAt,
      status: status === null ? [] : statusCells(status, this.etcd),
      health: this.health === null ? null : { ...this.health, findings: this.health.findings.map(findingOf) },
      tables: {
        locks: table('locks'),
        clients: table('clients', ownClients === 0 ? '' : `without ${count(ownClients, 'connection')} of this page`),
        refusals: table('refusals'),
        lockspaces: table('lockspaces'),
      },
    };
  }
}

/** So many items of a finding are shown. */
const MAX_ITEMS = 10;

function findingOf({ severity, title, items, advice, commands }: Group): Finding {
  const texts = items.slice(0, MAX_ITEMS).map(({ text }) => text);
  return {
    severity,
    title,
    items: texts,
    more: items.length - texts.length,
    advice,
    commands: commands.slice(0, MAX_ITEMS),
  };
}

function matches(cells: readonly Cell[], words: readonly string[]): boolean {
  const text = cells
    .filter((cell) => typeof cell === 'string')
    .join('\n')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

function inOrder(rows: readonly Row[], order: Order | undefined): readonly Row[] {
  if (order === undefined) return rows;
  const { column, descending } = order;
  const sorted = rows.toSorted((one, other) => compare(one.cells[column] ?? '', other.cells[column] ?? ''));
  return descending ? sorted.reverse() : sorted;
}

/** Not by the locale, which takes a second for 100 000 rows. */
function compare(one: Cell, other: Cell): number {
  const [a, b] = [Number(one), Number(other)];
  if (one !== '' && other !== '' && !Number.isNaN(a) && !Number.isNaN(b)) return a - b;
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

function statusCells(status: StatusInfo, etcd: string | null): [string, string][] {
  const { lockServer } = status;
  return [
    ['Locks', String(status.locks)],
    ['Owners', String(status.owners)],
    ['Clients', `${lockServer.clients} of ${lockServer.maxClients}`],
    [
      'Descriptors',
      status.descriptorLimit === 0 ? String(status.descriptors) : `${status.descriptors} of ${status.descriptorLimit}`,
    ],
    ['Restarts', String(status.restarts)],
    ['Process', `pid ${status.pid}`],
    ['Version', name(status.implementation)],
    ...(etcd === null ? [] : [['etcd', etcd] satisfies [string, string]]),
  ];
}

function lockRows(lock: LockInfo): Row[] {
  const state = fileState(lock.file);
  return lock.holds.map(({ owner: who, since }) => ({
    cells: [
      name(who.name) || 'unknown',
      String(who.pid),
      name(lock.name),
      mode(lock),
      state,
      lock.lockspace === '' ? '' : name(lock.lockspace),
      since,
      who.uuid,
    ],
    warn: !isSound(lock.file),
  }));
}

function clientRow({
  server,
  id,
  pid,
  connectedAt,
  owner: who,
  locks,
  restricted,
  isOwner,
  subscribed,
}: ClientInfo): Row {
  const states = [isOwner ? 'owner itself' : '', restricted ? 'restricted' : '', subscribed ? 'watching' : ''];
  return {
    cells: [
      server,
      String(id),
      String(pid),
      name(describeProcess(pid).program),
      who === null ? '' : name(who.name),
      who === null ? '' : String(who.pid),
      String(locks),
      states.filter((state) => state !== '').join(', '),
      connectedAt * 1000,
    ],
    warn: false,
  };
}

function refusalRow(refusal: NotedRefusal): Row {
  const { time, owner: who, name: resource, path, lockspace, holder: by, reason, notes } = refusal;
  return {
    cells: [
      owner(who),
      name(lockspace === '' ? resource : path),
      mode(refusal),
      by === null ? 'nobody' : holder(by, notes),
      name(reason),
      time,
    ],
    warn: false,
  };
}

function lockspaceRow({ directory, locks, file }: LockspaceInfo): Row {
  const state = file === FileState.SAME ? 'ok' : fileState(file);
  return {
    cells: [directory === '' ? '(default: names are paths)' : name(directory), String(locks), state],
    warn: !isSound(file),
  };
}
