/** Arguments for calls: mostly sensible ones, sometimes any that the description allows. */
import type { Shape } from '../../../xdr/schema.ts';
import type { Random } from './random.ts';
import { type Call, type Json, procedureOf, proceduresOf, type ProgramName } from './steps.ts';

/** No process has such a pid, so none is killed. */
const PIDS = [5_000_001, 5_000_002, 5_000_003] as const;
export const NUMBERS = [0, 1, 2, 3, 4, 7, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff] as const;
export const NAMES = ['a', 'b', 'c', 'd', 'link', 'dir'] as const;
const LOCKSPACES = ['~', '~/ls', '~/', '~/deep/er', ''] as const;
const PLAIN_LOCKSPACES = ['~', '~/ls', '~/deep/er', ''] as const;
const ODD_NAMES = [
  '',
  '.',
  './a',
  'dir/../a',
  'a/',
  'no/a',
  '\xff\xfe',
  '%s%n',
  ' ',
  'a\nb',
  'x'.repeat(255),
  'x'.repeat(256),
] as const;
/** Numbers of 64 bits: ids of the run's connections, the newest cursor of a list, and others. */
const WIDE = ['#0', '#1', '#2', '#3', '@', '0', '1', '99999', '9007199254740992', '18446744073709551615'] as const;
const IDS = ['#0', '#0', '#1', '#1', '#2', '#3', '#4', '99999'] as const;
const SERVERS = ['virtlockd', 'virtlockd', 'virtlockd', 'admin', 'admin', 'x', ''] as const;
/** Mostly more than the clients of a run, which would end otherwise. */
const LIMITS = [2000, 2000, 1000, 100, 50, 20, 5, 3, 1, 0, 0xffffffff] as const;
const FILTERS = [
  null,
  '',
  ' ',
  '1:rpc',
  '3:+util 4:*a?[b-c]',
  '0:x',
  '1:',
  'x',
  '1:x:y',
  '2:[',
  '4:\\',
  '1:[!a-',
] as const;
const OUTPUTS = [
  null,
  '',
  ' ',
  '1:file:/dev/null',
  '4:file:/dev/null',
  '1:file:/no/such/x',
  'x',
  '5:stderr',
  '1:file',
] as const;
const PARAMETERS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  setClientLimits: ['nclients_max', 'nclients_unauth_max'],
  setThreadPool: ['minWorkers', 'maxWorkers', 'prioWorkers'],
};

export interface ArgsOptions {
  /** Whether one file may get two names, which C takes for two files. */
  readonly aliases: boolean;
  /** In one process calls make no threads and end no daemon. */
  readonly inProcess: boolean;
}

/** Calls of the admin program with chosen arguments only: a real daemon would write files, make threads, or end. */
export const TOUCHY: ReadonlySet<string> = new Set(['setLogOutputs', 'setThreadPool', 'setTimeout', 'shutdown']);

function name(random: Random): string {
  return random.oneIn(12) ? random.pick(ODD_NAMES) : random.pick(NAMES);
}

/** Any value of a shape. */
function anyValue(shape: Shape, random: Random): Json {
  switch (shape.kind) {
    case 'void':
      return null;
    case 'u32':
      return random.oneIn(3) ? random.next() : random.pick(NUMBERS);
    case 'i32':
      return random.pick(NUMBERS) | 0;
    case 'u64':
    case 'i64':
      return random.pick(WIDE);
    case 'double':
      return random.pick(NUMBERS) / 3;
    case 'string':
      return random.oneIn(40) ? 'y'.repeat(random.pick([4095, 4096, 65535, 65536])) : name(random);
    case 'opaque':
      return random.bytes(shape.length).toString('hex');
    case 'optional':
      return random.oneIn(2) ? null : anyValue(shape.of, random);
    case 'list':
      return Array.from({ length: random.below(4) }, () => anyValue(shape.of, random));
    case 'struct':
      return Object.fromEntries(shape.fields.map(([key, field]) => [key, anyValue(field, random)]));
    case 'union': {
      const [type = 0, , arm = { kind: 'void' } as const] = random.pick(shape.arms) ?? [];
      return { type, value: anyValue(arm, random) };
    }
    case 'bool':
      return random.oneIn(2);
  }
}

/** Replaces the pids of real processes: the daemon would kill them. */
function harmless(value: Json): Json {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return (value as readonly Json[]).map(harmless);
  return Object.fromEntries(
    Object.entries(value as Record<string, Json>).map(([key, item]) =>
      key === 'pid' && typeof item === 'number' && item > 0 && item < 4_200_000
        ? [key, item + 5_000_000]
        : [key, harmless(item)],
    ),
  );
}

function odds(random: Random): number {
  return random.oneIn(40) ? random.next() : 0;
}

function lockArgs(call: string, random: Random, { aliases }: ArgsOptions): Json {
  const flags = odds(random);
  const anyPath = (): string => random.pick(aliases ? LOCKSPACES : PLAIN_LOCKSPACES);
  switch (call) {
    case 'register': {
      const pid = random.pick(PIDS);
      const id = random.oneIn(30) ? 0 : pid % 100;
      return { owner: { uuid: '00'.repeat(15) + '07', name: name(random), id, pid }, flags };
    }
    case 'restrict':
      return { flags: random.oneIn(6) ? 0 : 1 };
    case 'newLockspace':
    case 'createLockspace': {
      const path = random.oneIn(10) ? `~/${name(random)}` : anyPath();
      return call === 'createLockspace' ? { path } : { path, flags };
    }
    default: {
      const path = anyPath();
      const file = aliases ? name(random) : random.pick(NAMES);
      const wanted = call === 'acquireResource' ? (random.pick([0, 1, 2, 2, 2, 3]) | flags) >>> 0 : flags;
      if (path !== '') return { path, name: file, flags: wanted };
      // Without aliases, a name that means no other file.
      return { path, name: aliases ? `~/${file}` : `~/by-path-${file}`, flags: wanted };
    }
  }
}

function parameters(call: string, random: Random, { inProcess }: ArgsOptions): Json[] {
  const fields = PARAMETERS[call] ?? ['x'];
  return Array.from({ length: random.pick([1, 1, 1, 2, 2, 3, 0]) }, () => {
    const field = random.oneIn(12) ? random.pick(['x', '', 'y'.repeat(79), 'y'.repeat(80)]) : random.pick(fields);
    if (random.oneIn(10)) return { field, value: { type: 1, value: 5 } };
    // C makes a thread for each worker.
    const most = inProcess ? NUMBERS : ([0, 0, 1, 2] as const);
    return { field, value: { type: 2, value: random.pick(call === 'setClientLimits' ? LIMITS : most) } };
  });
}

function adminArgs(call: string, random: Random, options: ArgsOptions): Json {
  const flags = odds(random);
  const server = { name: random.pick(SERVERS) };
  switch (call) {
    case 'lookupServer':
      return { name: server.name, flags };
    case 'listServers':
    case 'listClients':
      return { server, needResults: random.pick([0, 1, 1, 2]), flags };
    case 'lookupClient':
      return { server, id: random.pick(IDS), flags };
    case 'getClientInfo':
    case 'closeClient':
      return { client: { server, id: random.pick(IDS), timestamp: '0', transport: 0 }, flags };
    case 'setClientLimits':
    case 'setThreadPool':
      return { server, params: parameters(call, random, options), flags };
    case 'setLogFilters':
      return { setting: random.pick(FILTERS), flags };
    case 'setLogOutputs':
      return { setting: random.pick(OUTPUTS), flags };
    case 'setTimeout':
      return { seconds: random.pick([0, 3600, 0xffffffff]), flags };
    default:
      return { server, flags };
  }
}

/** A filter of locks. */
export function lockFilter(random: Random): Json {
  const maybe = (value: () => Json): Json => (random.oneIn(6) ? value() : null);
  return {
    lockspace: maybe(() => random.pick(PLAIN_LOCKSPACES)),
    resource: maybe(() => name(random)),
    path: random.oneIn(12) ? `~/${name(random)}` : null,
    pid: maybe(() => random.pick(PIDS)),
    uuid: random.oneIn(12) ? '00000000-0000-0000-0000-000000000007' : null,
    owner: random.oneIn(12) ? name(random) : null,
  };
}

function inquireArgs(call: string, random: Random): Json {
  const { lockspace = null, resource = null } = lockFilter(random) as { lockspace?: Json; resource?: Json };
  return {
    pid: call === 'owners' && random.oneIn(2) ? null : random.pick(PIDS),
    lockspace,
    resource,
    filter: lockFilter(random),
    path: lockspace,
    lease: random.pick(['1', '', 'x']),
    cursor: random.pick(['0', '0', '@', '@', '7', '18446744073709551615']),
    limit: random.pick([0, 1, 1, 2, 3, 500, 0xffffffff]),
    after: random.pick(['0', '0', '1', '5', '9007199254740992']),
    flags: call === 'locks' || call === 'releaseDead' ? random.pick([0, 0, 1, 2]) : odds(random),
  };
}

/** A call of a program, by the name that it has in its description. */
export function callOf(program: ProgramName, call: string, random: Random, options: ArgsOptions): Call {
  const touchy = program === 'admin' && TOUCHY.has(call) && !options.inProcess;
  let args: Json;
  if (options.aliases && !touchy && random.oneIn(60)) {
    args = harmless(anyValue(procedureOf(call, program).args.shape, random));
  } else if (program === 'lock') args = lockArgs(call, random, options);
  else if (program === 'admin') args = adminArgs(call, random, options);
  else args = inquireArgs(call, random);
  return program === 'lock' ? { call, args } : { program, call, args };
}

/** A call whose effect ends with its connection. */
export function passingCall(random: Random): Call {
  return random.oneIn(2)
    ? { call: 'restrict', args: { flags: 0 } }
    : { call: 'releaseResource', args: { path: '', name: 'nothing', flags: 0 } };
}

/** The names of a program's calls. */
export function callsOf(program: ProgramName, { inProcess }: ArgsOptions): readonly string[] {
  return Object.keys(proceduresOf(program)).filter((call) => inProcess || call !== 'shutdown');
}
