/** The model of the inquire program: locks, lockspaces, clients and changes. */
import { checkClients, type Success } from './model-admin.ts';
import { type Changes, checkFlags, type Connection, Refusal, RPC, type ServerState } from './model-state.ts';
import { type ServedProgram, Words } from './model-wire.ts';
import type { Json, ListName } from './steps.ts';

export const inquireProgram: ServedProgram = { number: 0x696e7175, procedures: 18 };
const MAX_STRING = 65_536;
const MAX_PAGE = 500;
const CHANGES_EVENT = 100;

/** A held resource of the model. */
interface Lock {
  readonly lockspace: string;
  readonly name: string;
  readonly path: string;
  readonly flags: number;
  readonly owners: readonly number[];
}

/** The knowledge of the model. */
export interface Knowledge {
  /** False once it does not know the locks. */
  readonly sure: boolean;
  readonly locks: () => Iterable<Lock>;
  readonly lockspaces: () => ReadonlySet<string>;
  readonly servers: readonly [ServerState, ServerState];
}

interface Filter {
  readonly lockspace: string | null;
  readonly resource: string | null;
  readonly pid: number | null;
  /** It also has fields that the model does not know. */
  readonly more: boolean;
}

const ALL: Filter = { lockspace: null, resource: null, pid: null, more: false };

/** A page of a list: its entries as texts, and the cursor of the next page. */
export interface Page {
  readonly entries: readonly string[];
  readonly next: bigint;
}

function optionalText(words: Words, limit = MAX_STRING): string | null {
  return words.optional(() => words.text(limit));
}

/** Reads an owner and returns its pid. */
function owner(words: Words): number {
  const pid = words.word();
  words.word();
  words.text(MAX_STRING);
  words.text(36);
  words.word();
  return pid;
}

/** Reads a lock into the form of {@link lockText}. `held`: it has the listed holds; at a release they are gone. */
function lock(words: Words, held: boolean): string {
  const [lockspace, name, path] = [words.text(MAX_STRING), words.text(MAX_STRING), words.text(MAX_STRING)];
  const flags = words.word();
  words.word();
  words.count();
  words.wide();
  words.word();
  const count = words.word();
  const first = words.word();
  const pids = words.list(500, () => {
    const pid = owner(words);
    words.count();
    words.count();
    return pid;
  });
  if (held && first + pids.length > count) throw new RangeError('more holds than there are');
  return lockText({ lockspace, name, path, flags, owners: pids });
}

function lockText({ lockspace, name, path, flags, owners }: Lock): string {
  return JSON.stringify([lockspace, name, path, flags, owners]);
}

/** The reverse of {@link lockText}. */
export function lockOfText(text: string): Lock {
  const [lockspace, name, path, flags, owners] = JSON.parse(text) as [string, string, string, number, number[]];
  return { lockspace, name, path, flags, owners };
}

function client(words: Words): string {
  const server = words.text(16);
  const id = words.count();
  for (let left = 3; left > 0; left--) words.word();
  words.count();
  for (let left = 4; left > 0; left--) words.word();
  words.optional(() => owner(words));
  words.word();
  words.word();
  return `${server} ${id}`;
}

function refusal(words: Words): void {
  words.count();
  words.count();
  for (let left = 3; left > 0; left--) words.text(MAX_STRING);
  words.word();
  words.word();
  words.text(MAX_STRING);
  owner(words);
  words.count();
  words.optional(() => {
    words.word();
    owner(words);
    words.word();
  });
}

/** @throws RangeError when it is malformed */
export function parsePage(list: ListName, words: Words): Page {
  const entry = (): string => {
    if (list === 'locks') return lock(words, true);
    if (list === 'clients') return client(words);
    const directory = words.text(MAX_STRING);
    words.word();
    words.word();
    return directory;
  };
  const entries = words.list(MAX_PAGE, entry);
  return { entries, next: words.wide() };
}

/** The fault of a whole list, or null. */
export function judgeList(
  list: ListName,
  entries: readonly string[],
  knowledge: Knowledge,
  filter = ALL,
): string | null {
  if (list === 'clients') {
    for (const { name, clients, leaving } of knowledge.servers) {
      const own = entries.filter((entry) => entry.startsWith(`${name} `)).map((entry) => Number(entry.split(' ')[1]));
      const wrong = checkClients(own, own.length, true, new Set(clients.keys()), leaving);
      if (wrong !== null) return `${name}: ${wrong}`;
    }
    return null;
  }
  if (!knowledge.sure || filter.more) return null;
  const { lockspace, resource, pid } = filter;
  const fits = (one: Lock): boolean =>
    (lockspace === null || one.lockspace === lockspace) &&
    (resource === null || one.name === resource) &&
    (pid === null || one.owners.includes(pid));
  const known = list === 'locks' ? [...knowledge.locks()].filter(fits).map(lockText) : [...knowledge.lockspaces()];
  const [found, wanted] = [[...entries].sort(), known.sort()].map((lines) => lines.join('\n'));
  return found === wanted ? null : `${list} ${JSON.stringify(entries)}, not ${JSON.stringify(known)}`;
}

const LISTS: Readonly<Record<number, ListName>> = { 1: 'locks', 2: 'lockspaces', 3: 'clients' };

/** The filter of a step. */
export function filterOfStep(filter: Json, directory: string): Filter {
  const fields = filter as Readonly<Record<string, Json>>;
  const text = (key: string): string | null => {
    const value = fields[key];
    return typeof value === 'string' ? value.replaceAll('~', directory) : null;
  };
  const pid = typeof fields.pid === 'number' ? fields.pid : null;
  const more = ['path', 'uuid', 'owner'].some((key) => text(key) !== null);
  return { lockspace: text('lockspace'), resource: text('resource'), pid, more };
}

/** The filter of a call. @throws RangeError */
function filterOf(words: Words): Filter {
  const lockspace = optionalText(words);
  const resource = optionalText(words);
  const path = optionalText(words);
  const pid = words.optional(() => words.word());
  const uuid = optionalText(words, 36);
  const name = optionalText(words);
  return { lockspace, resource, pid, more: path !== null || uuid !== null || name !== null };
}

/** One call. @throws Refusal @throws RangeError when its arguments cannot be read */
export function inquire(connection: Connection, procedure: number, words: Words, knowledge: Knowledge): Success {
  const list = LISTS[procedure];
  if (list !== undefined) {
    const filter = procedure === 1 ? filterOf(words) : ALL;
    const cursor = words.wide();
    words.word();
    const flags = words.word();
    connection.identified = true;
    checkFlags(flags, procedure === 1 ? 1 : 0, RPC);
    const first = cursor === 0n;
    const expected = first ? snapshot(list, knowledge) : null;
    const check = (payload: Words): string | null => {
      const { entries, next } = parsePage(list, payload);
      return expected === null || next !== 0n ? null : judgeList(list, entries, expected, filter);
    };
    return first ? { check } : { check, orError: true };
  }
  if (procedure === 10) return owners(connection, words);
  if (procedure === 14) return lockStates(connection, words);
  if (procedure === 11) return releaseDead(connection, words, knowledge);
  if (procedure === 4 || procedure === 13) words.count();
  if (procedure === 16) optionalText(words);
  if (procedure >= 16 && procedure <= 18) words.text(MAX_STRING);
  const flags = words.word();
  connection.identified = true;
  checkFlags(flags, procedure === 7 ? 1 : 0, RPC);
  switch (procedure) {
    case 4:
      return {
        check: (payload) => {
          payload.list(MAX_PAGE, () => refusal(payload));
          payload.word();
          return null;
        },
      };
    case 5:
      return {
        check: (payload) => {
          const names = payload.list(256, () => {
            const name = payload.text(64);
            payload.count();
            return name;
          });
          return new Set(names).size === names.length && names.includes('acquired')
            ? null
            : `counters ${names.join(' ')}`;
        },
      };
    case 6: {
      const { sure } = knowledge;
      const locks = [...knowledge.locks()].length;
      const lockspaces = knowledge.lockspaces().size;
      return { check: (payload) => status(payload, sure ? { locks, lockspaces } : null) };
    }
    case 7:
      if (connection.subscription !== null) return {};
      connection.subscription = { acquired: 0, released: 0 };
      return {
        // After its reply no events of an earlier subscription come.
        check: () => {
          connection.reported = { acquired: 0, released: 0 };
          return null;
        },
      };
    case 8:
      connection.subscription = null;
      return {};
    case 12:
      return {
        check: (payload) => {
          payload.list(MAX_STORAGES, () => storage(payload));
          return null;
        },
      };
    case 13:
      return {
        check: (payload) => {
          payload.list(MAX_PAGE, () => {
            payload.count();
            payload.list(MAX_NOTES, () => note(payload));
          });
          return null;
        },
      };
    case 15:
      return { check: (payload) => (payload.word() === 0 ? null : 'locks in etcd') };
    case 16:
    case 17:
    case 18:
      throw new Refusal(55, RPC, NO_ETCD);
    default:
      return {
        check: (payload) => {
          payload.optional(() => {
            payload.count();
            payload.text(1024);
          });
          return null;
        },
      };
  }
}

const NO_ETCD = 'no lockspace is kept in etcd: etcd_endpoints in virtlockd.conf names its members';
const MAX_STORAGES = 64;
const MAX_CALLS = 8;
const MAX_NOTES = 4;

function note(payload: Words): void {
  payload.text(64);
  payload.optional(() => payload.text(36));
  payload.text(256);
  payload.text(36);
  for (let left = 2; left > 0; left--) payload.word();
  payload.count();
  payload.word();
}

function storage(payload: Words): void {
  payload.text(4096);
  payload.word();
  payload.count();
  payload.word();
  payload.list(MAX_CALLS, () => {
    payload.text(4096);
    payload.word();
    payload.count();
  });
}

function owners(connection: Connection, words: Words): Success {
  words.optional(() => words.word());
  const cursor = words.wide();
  words.word();
  const flags = words.word();
  connection.identified = true;
  checkFlags(flags, 0, RPC);
  const check = (payload: Words): null => {
    payload.list(MAX_PAGE, () => {
      owner(payload);
      for (let left = 3; left > 0; left--) payload.word();
    });
    payload.wide();
    return null;
  };
  return cursor === 0n ? { check } : { check, orError: true };
}

function lockStates(connection: Connection, words: Words): Success {
  const cursor = words.wide();
  words.word();
  const flags = words.word();
  connection.identified = true;
  checkFlags(flags, 1, RPC);
  const check = (payload: Words): null => {
    payload.list(MAX_PAGE, () => {
      for (let left = 3; left > 0; left--) payload.text(MAX_STRING);
      payload.word();
      for (let left = 3; left > 0; left--) payload.count();
      payload.word();
      payload.text(1024);
    });
    payload.wide();
    return null;
  };
  return cursor === 0n ? { check } : { check, orError: true };
}

/** The model knows no processes: it cannot know which holds are released. */
function releaseDead(connection: Connection, words: Words, { sure, locks }: Knowledge): Success {
  const pid = words.word();
  optionalText(words);
  optionalText(words);
  const flags = words.word();
  connection.identified = true;
  checkFlags(flags, 1, RPC);
  const mayRelease = !sure || [...locks()].some((held) => held.owners.includes(pid));
  const check = (payload: Words): string | null => {
    const released = payload.word();
    return mayRelease || released === 0 ? null : `${released} holds released of an owner that has none`;
  };
  return mayRelease ? { check, loses: true } : { check };
}

/** The present knowledge for a list, for a later answer. */
function snapshot(list: ListName, { sure, locks, lockspaces, servers }: Knowledge): Knowledge {
  const held = list === 'locks' ? [...locks()].map((one) => ({ ...one, owners: [...one.owners] })) : [];
  const paths: ReadonlySet<string> = list === 'lockspaces' ? lockspaces() : new Set();
  const copy = (server: ServerState): ServerState => ({
    ...server,
    clients: new Map(server.clients),
    leaving: new Set(server.leaving),
  });
  return { sure, locks: () => held, lockspaces: () => paths, servers: [copy(servers[0]), copy(servers[1])] };
}

function status(payload: Words, wanted: { locks: number; lockspaces: number } | null): string | null {
  payload.word();
  payload.text(256);
  payload.word();
  payload.text(MAX_STRING);
  payload.count();
  payload.count();
  payload.word();
  for (let left = 6; left > 0; left--) payload.word();
  const lockspaces = payload.word();
  const locks = payload.word();
  for (let left = 5; left > 0; left--) payload.word();
  payload.count();
  payload.list(64, () => payload.text(1024));
  if (wanted === null || (wanted.locks === locks && wanted.lockspaces === lockspaces)) return null;
  return `${locks} locks in ${lockspaces} lockspaces, not ${wanted.locks} in ${wanted.lockspaces}`;
}

/** Whether a message is an event of changes. */
export function isEvent(message: Buffer): boolean {
  return (
    message.readUInt32BE(4) === inquireProgram.number &&
    message.readUInt32BE(12) === CHANGES_EVENT &&
    message.readUInt32BE(16) === 2
  );
}

/** Adds the changes of an event to `reported`. Returns the fault of the event, or null. */
export function countEvent(message: Buffer, reported: Changes): string | null {
  const words = new Words(message, 28);
  try {
    words.list(2000, () => {
      const type = words.word();
      if (type === 1 || type === 2) {
        words.count();
        lock(words, type === 1);
        reported[type === 1 ? 'acquired' : 'released']++;
      } else if (type === 3) refusal(words);
      else if (type === 4 || type === 5) {
        words.count();
        words.count();
        words.word();
      } else if (type === 6 || type === 7) words.count();
      else throw new RangeError('type');
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return `a malformed event: ${message.toString('hex')}`;
  }
  return words.left === 0 ? null : `${words.left} bytes behind an event`;
}
