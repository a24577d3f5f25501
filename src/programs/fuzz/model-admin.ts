/** The model of the admin program: servers, clients, limits, settings. */
import { ADMIN, checkFlags, type Connection, Refusal, RPC, type ServerState } from './model-state.ts';
import type { Compared, ServedProgram, Words } from './model-wire.ts';

export const ADMIN_PROGRAM = 0x06900690;
const MAX_STRING = 4_194_304;
const MAX_PARAMETERS = 32;
const MAX_CLIENTS = 16_384;
const MAX_FIELD = 79;
const UINT = 2;

interface Parameter {
  readonly field: string;
  readonly type: number;
  readonly value: number | string;
}

/** The expectation of a success. */
export interface Success {
  readonly check?: (payload: Words) => string | null;
  readonly compared?: Compared;
  /** An error is right too. */
  readonly orError?: true;
  /** The connection ends: before the reply, or behind it. */
  readonly closes?: 'at once' | 'behind';
  /** A client whose connection the daemon closes. */
  readonly ended?: { readonly server: ServerState; readonly client: number };
  /** The model does not know the locks any more. */
  readonly loses?: true;
}

/** The program of a daemon of that version. */
export function adminProgramOf(version: number): ServedProgram {
  return { number: ADMIN_PROGRAM, procedures: version >= 11_003_000 ? 20 : version >= 9_000_000 ? 19 : 18 };
}

/** The arguments of all procedures. Those that a procedure lacks have their defaults. */
interface Args {
  server: string;
  id: bigint;
  need: number;
  params: Parameter[];
  setting: string | null;
  flags: number;
}

function text(words: Words): string {
  return words.text(MAX_STRING);
}

function parameter(words: Words): Parameter {
  const field = text(words);
  const type = words.word();
  switch (type) {
    case 1:
    case 2:
    case 6:
      return { field, type, value: words.word() };
    case 3:
    case 4:
    case 5:
      return { field, type, value: words.wide().toString() };
    case 7:
      return { field, type, value: text(words) };
    default:
      throw new RangeError('type');
  }
}

/** @throws RangeError */
function parse(procedure: number, words: Words): Args {
  const args: Args = { server: '', id: 0n, need: 0, params: [], setting: null, flags: 0 };
  if ([5, 6, 7, 8, 9, 10, 11, 12, 13, 18].includes(procedure)) args.server = text(words);
  if (procedure === 4 || procedure === 8) args.need = words.word();
  else if (procedure === 9) args.id = words.wide();
  else if (procedure === 10 || procedure === 11) {
    args.id = words.wide();
    words.wide();
    words.word();
  } else if (procedure === 7 || procedure === 13) args.params = words.list(MAX_PARAMETERS, () => parameter(words));
  else if (procedure === 16 || procedure === 17) args.setting = words.optional(() => text(words));
  else if (procedure === 19) words.word();
  if (procedure !== 2 && procedure !== 3) args.flags = words.word();
  return args;
}

function expectedText(payload: Words, wanted: string, what: string): string | null {
  const found = text(payload);
  return found === wanted ? null : `${what} '${found}', not '${wanted}'`;
}

function number(value: number | undefined, wanted: number, what: string): string | null {
  return value === wanted ? null : `${what} is ${value ?? 'absent'}, not ${wanted}`;
}

export class AdminModel {
  readonly servers: readonly [ServerState, ServerState];
  private readonly version: number;
  /** The filters as GET_LOG_FILTERS returns them; null when unknown. */
  private filters: { readonly text: string; readonly count: number } | null = null;
  /** Whether a setting was changed that outlasts the run. */
  touched = false;
  private readonly hasThreads: boolean;

  /** @param hasThreads the daemon makes worker threads, whose number varies */
  constructor(servers: AdminModel['servers'], version: number, hasThreads: boolean) {
    this.hasThreads = hasThreads;
    this.servers = servers;
    this.version = version;
  }

  /** One call. @throws Refusal @throws RangeError when its arguments cannot be read */
  perform(connection: Connection, procedure: number, words: Words): Success {
    const args = parse(procedure, words);
    connection.identified = true;
    const { flags } = args;
    if ([1, 4, 14, 15, 16, 17, 19].includes(procedure)) checkFlags(flags, 0, ADMIN);
    if (procedure === 20) checkFlags(flags, 1, ADMIN);
    switch (procedure) {
      case 2:
        return { closes: 'behind' };
      case 3:
        return { check: (payload) => number(Number(payload.wide()), this.version, 'version') };
      case 4:
        return { check: (payload) => this.checkServers(payload, args.need), compared: 'status' };
      case 5: {
        const { name } = this.server(args.server, RPC);
        return { check: (payload) => expectedText(payload, name, 'server') };
      }
      case 6: {
        const { priorityWorkers } = this.server(args.server, RPC, flags);
        const wanted = this.hasThreads ? null : priorityWorkers;
        return { check: (payload) => checkThreads(payload, wanted), compared: 'status' };
      }
      case 7:
        this.setThreads(this.server(args.server, ADMIN), args);
        return {};
      case 8: {
        const server = this.server(args.server, RPC, flags);
        const { clients, leaving } = server;
        const present = new Set(clients.keys());
        const perhaps = new Set(leaving);
        return {
          check: (payload) => {
            const listed = payload.list(MAX_CLIENTS, () => reference(payload, server.name));
            return checkClients(listed, payload.word(), args.need !== 0, present, perhaps);
          },
          compared: 'status',
        };
      }
      case 9: {
        const server = this.server(args.server, RPC, flags);
        const racy = this.client(server, args.id, RPC);
        const check = (payload: Words): string | null =>
          number(reference(payload, server.name), Number(args.id), 'client');
        return racy ? { check, orError: true, compared: 'nothing' } : { check, compared: 'status' };
      }
      case 10:
        return this.clientInfo(args);
      case 11: {
        const server = this.server(args.server, RPC);
        const client = Number(args.id);
        if (this.client(server, args.id, RPC)) return { orError: true, compared: 'nothing' };
        checkFlags(flags, 0, ADMIN);
        const self = connection.server === server && connection.client === client;
        return { ended: { server, client }, ...(self ? { closes: 'at once' as const } : {}) };
      }
      case 12: {
        const server = this.server(args.server, RPC, flags);
        const { maxClients, maxAnonymousClients, clients, leaving } = server;
        const [least, most] = [clients.size, clients.size + leaving.size];
        return {
          check: (payload) => checkLimits(payload, maxClients, maxAnonymousClients, least, most),
          compared: 'status',
        };
      }
      case 13:
        this.setLimits(this.server(args.server, ADMIN), args);
        return {};
      case 14:
        return { check: checkSetting, orError: true, compared: 'status' };
      case 15: {
        const { filters } = this;
        return {
          check: (payload) => {
            const found = payload.optional(() => text(payload)) ?? '';
            const count = payload.word();
            if (filters === null || (found === filters.text && count === filters.count)) return null;
            return `filters '${found}' (${count}), not '${filters.text}' (${filters.count})`;
          },
          // Filters of an earlier run are unknown.
          compared: filters === null ? 'status' : 'bytes',
        };
      }
      case 16:
        this.touched = true;
        return { orError: true, compared: 'status' };
      case 17:
        this.setFilters(args.setting ?? '');
        return {};
      case 18:
        this.server(args.server, RPC, flags);
        throw new Refusal(1, RPC, 'no tls service found, unable to update tls files');
      case 19:
        this.touched = true;
        return {};
      case 20:
        return { closes: 'at once' };
      default:
        return {};
    }
  }

  private server(name: string, domain: number, flags = 0): ServerState {
    const found = this.servers.find((server) => server.name === name);
    if (found === undefined) {
      const detail = domain === RPC ? `No server named '${name}'` : `no server with matching name '${name}' found`;
      throw new Refusal(95, domain, detail);
    }
    checkFlags(flags, 0, ADMIN);
    return found;
  }

  /** Whether the daemon may know the client or not. @throws Refusal when it cannot know it */
  private client(server: ServerState, id: bigint, domain: number): boolean {
    if (server.clients.has(Number(id))) return false;
    if (server.leaving.has(Number(id))) return true;
    const detail = domain === RPC ? `No client with matching ID '${id}'` : `no client with matching id '${id}' found`;
    throw new Refusal(96, domain, detail);
  }

  private clientInfo({ server: name, id, flags }: Args): Success {
    const server = this.server(name, ADMIN);
    const racy = this.client(server, id, ADMIN);
    if (!racy) checkFlags(flags, 0, ADMIN);
    const check = (payload: Words): string | null => {
      const params = payload.list(64, () => parameter(payload));
      const names = params.map(({ field }) => field).join(' ');
      const known =
        /^readonly unix_user_id unix_user_name unix_group_id unix_group_name unix_process_id( selinux_context)?$/;
      return known.test(names) ? null : `client info of ${names}`;
    };
    const run = server.clients.get(Number(id)) ?? null;
    // A client from before the run may have called or not.
    if (racy || run === null) return { check, orError: true, compared: racy ? 'nothing' : 'bytes' };
    if (this.identified(run)) return { check };
    throw new Refusal(1, RPC, 'No identity information available for client');
  }

  /** Set by the model that knows connections. */
  identified: (connection: number) => boolean = () => false;

  private checkServers(payload: Words, need: number): string | null {
    const names = payload.list(MAX_CLIENTS, () => text(payload));
    const count = payload.word();
    if (count !== 2) return `${count} servers`;
    const wanted = need === 0 ? '' : 'admin virtlockd';
    return names.sort().join(' ') === wanted ? null : `servers ${names.join(' ')}`;
  }

  private setThreads(server: ServerState, args: Args): void {
    const values = readUnsigned(args, ['minWorkers', 'maxWorkers', 'prioWorkers']);
    const maxWorkers = values.get('maxWorkers') ?? 0;
    if ((values.get('minWorkers') ?? 0) > maxWorkers) {
      throw new Refusal(8, 0, 'minWorkers cannot be larger than maxWorkers');
    }
    if (maxWorkers > 0) {
      throw new Refusal(8, 0, 'maxWorkers must not be switched from zero to non-zero and vice versa');
    }
    this.touched = true;
    server.priorityWorkers = values.get('prioWorkers') ?? server.priorityWorkers;
  }

  private setLimits(server: ServerState, args: Args): void {
    const values = readUnsigned(args, ['nclients_max', 'nclients_unauth_max']);
    const maxClients = values.get('nclients_max') ?? server.maxClients;
    const maxAnonymousClients = values.get('nclients_unauth_max') ?? server.maxAnonymousClients;
    // The rest differs from version to version.
    if (maxClients < maxAnonymousClients) throw new Refusal(8, RPC, 'The overall maximum number of clients ', true);
    this.touched = true;
    Object.assign(server, { maxClients, maxAnonymousClients });
  }

  private setFilters(setting: string): void {
    let formatted = '';
    const filters = setting.split(' ').filter((token) => token !== '');
    for (const token of filters) {
      const [priority = '', match, ...rest] = token.split(':');
      if (match === undefined || (this.version < 9_000_000 && rest.length > 0)) {
        throw new Refusal(8, 0, `Malformed format for filter '${token}'`);
      }
      const level = /^[\t\n\v\f\r ]*\+?[0-9]+$/.test(priority) ? Number(priority) : 0;
      if (level < 1 || level > 4) throw new Refusal(8, 0, `Invalid priority '${priority}' for filter '${token}'`);
      const name = match.startsWith('+') ? match.slice(1) : match;
      if (name === '') throw new Refusal(8, 0, `Invalid match string '${match}'`);
      formatted += `${level}:*${name}* `;
    }
    this.touched = true;
    this.filters = { text: formatted, count: filters.length };
  }
}

/** Unsigned values by name. @throws Refusal for the first fault in the order of names */
function readUnsigned({ params, flags }: Args, known: readonly string[]): Map<string, number> {
  for (const { field } of params) {
    if (field.length > MAX_FIELD) throw new Refusal(1, 0, `parameter ${field} too big for destination`);
  }
  checkFlags(flags, 0, ADMIN);
  const values = new Map<string, number>();
  for (const { field, type, value } of params.toSorted((a, b) => (a.field < b.field ? -1 : +(a.field > b.field)))) {
    if (!known.includes(field)) throw new Refusal(74, 0, `parameter '${field}' not supported`);
    if (values.has(field)) throw new Refusal(8, 0, `parameter '${field}' occurs multiple times`);
    // The order of the two types in the text differs from version to version.
    if (type !== UINT) throw new Refusal(8, 0, `invalid type '`, true);
    values.set(field, Number(value));
  }
  return values;
}

function reference(payload: Words, server: string): number {
  const name = text(payload);
  const id = Number(payload.wide());
  payload.wide();
  const transport = payload.word();
  return name === server && transport === 0 ? id : -1;
}

/** @param present clients that must be listed @param perhaps clients that may be listed */
export function checkClients(
  listed: readonly number[],
  count: number,
  needed: boolean,
  present: ReadonlySet<number>,
  perhaps: ReadonlySet<number>,
): string | null {
  if (count < present.size || count > present.size + perhaps.size) return `${count} clients, not ${present.size}`;
  if (!needed) return listed.length === 0 ? null : 'a list that was not requested';
  const found = new Set(listed);
  if (found.size !== listed.length || listed.length !== count) return `clients ${listed.join(' ')}, ${count} in all`;
  const missing = [...present].find((id) => !found.has(id));
  if (missing !== undefined) return `client ${missing} is not listed`;
  const odd = listed.find((id) => !present.has(id) && !perhaps.has(id));
  return odd === undefined ? null : `client ${odd} is listed, which is not connected`;
}

function unsignedValues(payload: Words): Map<string, number> {
  const params = payload.list(MAX_PARAMETERS, () => parameter(payload));
  return new Map(params.map(({ field, type, value }) => [field, type === UINT ? Number(value) : NaN]));
}

/** @param priorityWorkers null when it may be any */
function checkThreads(payload: Words, priorityWorkers: number | null): string | null {
  const values = unsignedValues(payload);
  const names = [...values.keys()].join(' ');
  if (names !== 'minWorkers maxWorkers nWorkers freeWorkers prioWorkers jobQueueDepth') return `parameters ${names}`;
  return priorityWorkers === null ? null : number(values.get('prioWorkers'), priorityWorkers, 'prioWorkers');
}

function checkLimits(payload: Words, max: number, anonymous: number, least: number, most: number): string | null {
  const values = unsignedValues(payload);
  const names = [...values.keys()].join(' ');
  if (names !== 'nclients_max nclients nclients_unauth_max nclients_unauth') return `parameters ${names}`;
  const clients = values.get('nclients') ?? 0;
  if (clients < least || clients > most) return `${clients} clients, not ${least}`;
  return (
    number(values.get('nclients_max'), max, 'nclients_max') ??
    number(values.get('nclients_unauth_max'), anonymous, 'nclients_unauth_max')
  );
}

function checkSetting(payload: Words): string | null {
  text(payload);
  return number(payload.word() > 0 ? 1 : 0, 1, 'outputs');
}
