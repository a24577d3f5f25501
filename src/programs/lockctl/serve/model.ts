/** The content of the page: the daemon's state as last read, in printable cells. */
import {
  type ClientInfo,
  FileState,
  type LockInfo,
  type LockspaceInfo,
  type RefusalInfo,
  type StatusInfo,
} from '../../../../xdr/programs/inquire.ts';
import type { InquireClient } from '../inquire-client.ts';
import { describeProcess } from '../kernel/holders.ts';
import { fileState, holder, mode, name, owner } from '../output.ts';

/** The page shows this many rows. The search finds the others. */
const ROWS_MAX = 500;

/** `cells` are shown and searched. `time` is in milliseconds since 1970, 0 if unknown. */
interface Row {
  readonly cells: readonly string[];
  readonly time: number;
  readonly warn: boolean;
}

interface Table {
  readonly headings: readonly string[];
  readonly rows: readonly Row[];
  /** The number of rows, and of those that match the search. */
  readonly total: number;
  readonly found: number;
}

interface Snapshot {
  /** Why the daemon does not answer; null while it does. */
  readonly failure: string | null;
  readonly status: readonly (readonly [label: string, value: string])[];
  readonly warnings: readonly string[];
  readonly tables: Readonly<Record<'locks' | 'clients' | 'refusals' | 'lockspaces', Table>>;
}

type Rows = Record<keyof Snapshot['tables'], Row[]>;

const HEADINGS = {
  locks: ['VM', 'PID', 'UUID', 'Mode', 'File', 'Lockspace', 'Resource'],
  clients: ['Server', 'Id', 'PID', 'Program', 'For', 'Owner PID', 'Locks', 'State'],
  refusals: ['Asked by', 'Mode', 'Resource', 'In the way', 'Answer'],
  lockspaces: ['Directory', 'Locks', 'State'],
} as const;

export class Model {
  private rows: Rows = { locks: [], clients: [], refusals: [], lockspaces: [] };
  private status: StatusInfo | null = null;
  private failure: string | null = 'The daemon has not been asked yet.';

  /** Reads the whole state. Never throws: the page shows a failure. */
  async read(daemon: InquireClient): Promise<void> {
    try {
      const status = await daemon.status();
      this.rows = {
        locks: (await daemon.locks({}, true)).flatMap(lockRows),
        clients: (await daemon.clients()).map(clientRow),
        refusals: (await daemon.refusals()).reverse().map(refusalRow),
        lockspaces: (await daemon.lockspaces()).map(lockspaceRow),
      };
      this.status = status;
      this.failure = null;
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error);
    }
  }

  /** The rows that match: each word occurs in some cell, in any case. */
  search(text: string): Snapshot {
    const words = text
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    const table = (key: keyof Rows): Table => {
      const rows = this.rows[key];
      const found = words.length === 0 ? rows : rows.filter(({ cells }) => matches(cells, words));
      return { headings: HEADINGS[key], rows: found.slice(0, ROWS_MAX), total: rows.length, found: found.length };
    };
    const { status } = this;
    return {
      failure: this.failure,
      status: status === null ? [] : statusCells(status),
      warnings: status?.warnings.map(name) ?? [],
      tables: {
        locks: table('locks'),
        clients: table('clients'),
        refusals: table('refusals'),
        lockspaces: table('lockspaces'),
      },
    };
  }
}

function matches(cells: readonly string[], words: readonly string[]): boolean {
  const text = cells.join('\n').toLowerCase();
  return words.every((word) => text.includes(word));
}

function statusCells(status: StatusInfo): [string, string][] {
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
  ];
}

function lockRows(lock: LockInfo): Row[] {
  const state = fileState(lock.file);
  return lock.holds.map(({ owner: who, since }) => ({
    cells: [
      name(who.name) || 'unknown',
      String(who.pid),
      who.uuid,
      mode(lock),
      state,
      lock.lockspace === '' ? '' : name(lock.lockspace),
      name(lock.name),
    ],
    time: since,
    warn: state !== 'same',
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
    ],
    time: connectedAt * 1000,
    warn: false,
  };
}

function refusalRow(refusal: RefusalInfo): Row {
  const { time, owner: who, name: resource, path, lockspace, holder: by, reason } = refusal;
  return {
    cells: [
      owner(who),
      mode(refusal),
      name(lockspace === '' ? resource : path),
      by === null ? 'nobody' : holder(by),
      name(reason),
    ],
    time,
    warn: false,
  };
}

function lockspaceRow({ directory, locks, file }: LockspaceInfo): Row {
  const state = file === FileState.SAME ? 'ok' : fileState(file);
  return {
    cells: [directory === '' ? '(default: names are paths)' : name(directory), String(locks), state],
    time: 0,
    warn: state !== 'ok',
  };
}
