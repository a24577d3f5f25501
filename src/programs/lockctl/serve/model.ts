/**
 * What the page shows: the daemon's state as last read, read anew a moment after something changed. All that comes from
 * outside is made printable here; the page itself only ever sets text.
 */
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

/** The most rows that a page gets; the search finds the others. */
const ROWS_MAX = 500;

/** A row: what is searched and shown, cell by cell. `time`: milliseconds since 1970, 0 unknown. */
interface Row {
  readonly cells: readonly string[];
  readonly time: number;
  readonly warn: boolean;
}

interface Table {
  readonly headings: readonly string[];
  readonly rows: readonly Row[];
  /** How many rows there are, and how many of them fit the search. */
  readonly total: number;
  readonly found: number;
}

export interface Snapshot {
  /** Null while the daemon answers; else why it does not. */
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

  /** Reads everything. Never throws: a daemon that does not answer is something to show, too. */
  async read(daemon: InquireClient): Promise<void> {
    try {
      const status = await daemon.status();
      const [locks, clients, refusals, lockspaces] = [
        await daemon.locks({}, true),
        await daemon.clients(),
        await daemon.refusals(),
        await daemon.lockspaces(),
      ];
      this.status = status;
      this.rows = {
        locks: locks.flatMap(lockRows),
        clients: clients.map(clientRow),
        refusals: refusals.reverse().map(refusalRow),
        lockspaces: lockspaces.map(lockspaceRow),
      };
      this.failure = null;
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error);
    }
  }

  /** What fits the search, in every table: all of its words, in any cell, whatever their case. */
  search(text: string): Snapshot {
    const words = text
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    const table = (key: keyof Rows): Table => {
      const rows = this.rows[key];
      const found = words.length === 0 ? rows : rows.filter(({ cells }) => fits(cells, words));
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

function fits(cells: readonly string[], words: readonly string[]): boolean {
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
