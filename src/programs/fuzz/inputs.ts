/** Targets that parse bytes: the codec, the configuration, log settings, the state document. Each judges itself. */
import { isDeepStrictEqual } from 'node:util';
import { XdrError, XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import { remoteError } from '../../../xdr/error.ts';
import type { Procedure } from '../../../xdr/program.ts';
import { adminProcedures } from '../../../xdr/programs/admin.ts';
import { lockProcedures } from '../../../xdr/programs/lock.ts';
import type { Xdr } from '../../../xdr/schema.ts';
import { ConfigError, parseConfig } from '../virtlockd/config.ts';
import { formatFilters, levelFor, parseFilters } from '../../log/filters.ts';
import { LogSettingError } from '../../log/levels.ts';
import { parseOutputs } from '../../log/output-spec.ts';
import { formatDocument } from '../../restart/document.ts';
import { EMPTY_SERVER } from '../../restart/empty-state.ts';
import { parseDocument, parseJson } from '../../restart/parse.ts';
import { DocumentError } from '../../state/state.ts';
import type { Random } from './random.ts';

export interface InputTarget {
  readonly name: string;
  /** Inputs between two readings of the clock. */
  readonly batch: number;
  /** The first inputs. */
  readonly seeds: readonly Buffer[];
  /** Words that mutations insert. */
  readonly words: readonly Buffer[];
  /** @throws Error when the target is at fault */
  run(input: Buffer): void;
}

/** The longest time for an input, in ms: parsers run in the daemon's only thread. */
const SLOW_MS = 200;

const buffers = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'latin1'));
/** Words that blanks part. */
const words = (text: string): Buffer[] => buffers(text.split(' '));

function fail(what: string): never {
  throw new Error(what);
}

const types: Xdr<unknown>[] = [
  ...[lockProcedures, adminProcedures].flatMap((procedures) =>
    Object.values(procedures as Record<string, Procedure<unknown, unknown>>).flatMap(({ args, result }) => [
      args,
      result,
    ]),
  ),
  remoteError as Xdr<unknown>,
].filter(({ minSize }) => minSize > 0);

const reader = new XdrReader(Buffer.alloc(0));
const first = new XdrWriter(65536);
const second = new XdrWriter(65536);

/** The first byte chooses the type of the rest. A value that can be read must be written and read again without change. */
const codec: InputTarget = {
  name: 'codec',
  batch: 512,
  seeds: types.map((_, index) => Buffer.concat([Buffer.from([index]), Buffer.alloc(24)])),
  words: '00000000 00000001 00000004 00010000 00010001 00400000 00400001 ffffffff 7fffffff'
    .split(' ')
    .map((hex) => Buffer.from(hex, 'hex')),
  run(input) {
    const type = types[(input[0] ?? 0) % types.length];
    if (type === undefined) return;
    reader.reset(input, 1, input.length);
    let value: unknown;
    try {
      value = type.read(reader);
    } catch (error) {
      if (error instanceof XdrError) return;
      throw error;
    }
    if (reader.offset > input.length) fail('read past the end');
    first.length = 0;
    type.write(first, value);
    reader.reset(first.buffer, 0, first.length);
    const again = type.read(reader);
    if (reader.remaining !== 0) fail(`${reader.remaining} bytes are left of what was written`);
    second.length = 0;
    type.write(second, again);
    if (Buffer.compare(first.bytes(), second.bytes()) !== 0) fail('written differently the second time');
  },
};

const config: InputTarget = {
  name: 'config',
  batch: 256,
  seeds: buffers([
    'log_level = 3\nlog_filters = "1:rpc 2:util"\nlog_outputs="1:file:/x"\n',
    '# comment\nmax_clients = 10\nadmin_max_clients=5\nlibvirt_version = "9.0.0"\n',
    'x = [ \'a\', "b", 3, [ 1 ] ]\n',
  ]),
  words: words(`= " ' """ [ ] , # \n \r\n \t -1 99999999999999999999 max_clients \0 \\`),
  run(input) {
    try {
      const settings = parseConfig(input.toString('latin1'), 'file');
      for (const number of [settings.maxClients, settings.adminMaxClients]) {
        if (!Number.isSafeInteger(number) || number < 0) fail(`a limit of ${number}`);
      }
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  },
};

const SOURCES = ['rpc.netserver', 'util.lockspace', 'locking.lock_daemon_dispatch', ''];

const filters: InputTarget = {
  name: 'filters',
  batch: 256,
  seeds: buffers(['1:rpc 3:util', '4:+locking 2:*a?[b-c]', '1:x:y']),
  words: [Buffer.from(' '), ...words(': + * ? [ ] ! ^ \\ - 1: 4: 0 *? [a- []] [!')],
  run(input) {
    const text = input.toString('latin1');
    for (const exact of [false, true]) {
      try {
        const parsed = parseFilters(text, exact);
        const formatted = formatFilters(parsed);
        if (formatted.split(' ').length !== parsed.length + 1) fail('formatted to another number of filters');
        for (const source of SOURCES) {
          const level = levelFor(source, parsed, 3);
          if (!(level >= 1 && level <= 4)) fail(`level ${level}`);
        }
      } catch (error) {
        if (!(error instanceof LogSettingError)) throw error;
      }
    }
  },
};

const outputs: InputTarget = {
  name: 'outputs',
  batch: 256,
  seeds: buffers(['1:stderr', '2:file:/x/../y 3:syslog:me', '4:journald']),
  words: [Buffer.from(' '), ...words(': file stderr syslog journald 1: / .. 0 +1 05')],
  run(input) {
    const text = input.toString('latin1');
    for (const noun of ['output', 'log output'] as const) {
      const parsed = parseOutputs(text, noun, '/here');
      for (const { level, destination, name } of parsed.outputs) {
        if (!(level >= 1 && level <= 4)) fail(`level ${level}`);
        if (destination === 'file' && !name.startsWith('/')) fail(`a relative file '${name}'`);
      }
    }
  },
};

function exampleDocument(): Buffer {
  const sock = (fd: number, isClient: boolean): unknown => ({ fd, errfd: -1, pid: 0, isClient, unlinkUNIX: !isClient });
  const privateData = {
    restricted: false,
    ownerPid: 7,
    ownerId: 5,
    ownerName: 'vm1',
    ownerUUID: '00010203-0405-0607-0809-0a0b0c0d0e0f',
  };
  const client = {
    id: 7,
    auth: 0,
    auth_pending: false,
    readonly: false,
    nrequests_max: 1,
    conn_time: 1795358400,
    sock: sock(9, true),
  };
  const server = (data: unknown): unknown => ({
    ...EMPTY_SERVER,
    next_client_id: 8,
    services: [{ auth: 0, readonly: false, nrequests_client_max: 1, socks: [sock(4, false)] }],
    clients: [{ ...client, privateData: data }],
  });
  const hold = { id: 5, name: 'vm1', uuid: privateData.ownerUUID, since: 1, client: 7 };
  const resource = {
    name: '\xff',
    path: '/x',
    fd: 12,
    lockHeld: true,
    flags: 3,
    owners: [7],
    'x-holds': [hold],
    'x-inode': '1::2',
  };
  const document = {
    daemon: { servers: { admin: server({}), virtlockd: server(privateData) } },
    defaultLockspace: { resources: [resource] },
    lockspaces: [{ directory: '/x', resources: [resource] }],
    magic: '1',
    'x-virtlockd': { restarts: 1, started: 2, pidFile: 3, timeout: 4 },
  };
  return Buffer.from(JSON.stringify(document), 'latin1');
}

const document: InputTarget = {
  name: 'document',
  batch: 32,
  seeds: [exampleDocument()],
  words: words('{ } [ ] , : " null true -1 4294967296 1e400 \\u00ff \\ud800 \\ "x- 0 [] {} ""'),
  run(input) {
    try {
      const parsed = parseDocument(parseJson(input));
      const again = parseDocument(parseJson(formatDocument(parsed)));
      if (!isDeepStrictEqual(again, parsed)) fail('not read as it was written');
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
    }
  },
};

export const inputTargets: readonly InputTarget[] = [codec, config, filters, outputs, document];

/** Runs one input and returns the complaint, or null. */
export function tryInput(target: InputTarget, input: Buffer): string | null {
  try {
    target.run(input);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** As {@link tryInput}, but also complains about time. */
export function tryInputTimed(target: InputTarget, input: Buffer): string | null {
  const start = process.cpuUsage();
  const complaint = tryInput(target, input);
  const { user } = process.cpuUsage(start);
  return complaint ?? (user > SLOW_MS * 1000 ? `took ${Math.round(user / 1000)} ms` : null);
}

/** The most bytes of an input; longer ones are cut. */
const MAX_INPUT = 8192;
const scratch = Buffer.alloc(2 * MAX_INPUT);

/** A mutated copy of an input, in a buffer that the next call overwrites. */
export function mutateInput(input: Buffer, other: Buffer, target: InputTarget, random: Random): Buffer {
  let length = Math.min(input.length, MAX_INPUT);
  input.copy(scratch, 0, 0, length);
  /** Makes room for `added` bytes in place of `removed` ones. */
  const splice = (at: number, removed: number, added: number): void => {
    const end = Math.min(length, at + removed);
    scratch.copyWithin(at + added, end, length);
    length = Math.min(MAX_INPUT, length - (end - at) + added);
  };
  for (let count = 1 + random.below(4); count > 0; count--) {
    const at = random.below(length + 1);
    switch (random.below(8)) {
      case 0:
        scratch[at] = (scratch[at] ?? 0) ^ (1 << random.below(8));
        break;
      case 1:
        scratch[at] = random.next();
        break;
      case 2:
      case 3: {
        const word = random.pick(target.words);
        if (word === undefined) break;
        splice(at, random.oneIn(2) ? 0 : word.length, word.length);
        word.copy(scratch, at);
        break;
      }
      case 4:
        splice(at, 1 + random.below(8), 0);
        break;
      case 5: {
        const size = Math.min(random.below(32), length);
        const from = random.below(length - size + 1);
        splice(at, 0, size);
        scratch.copyWithin(at, from, from + size);
        break;
      }
      case 6: {
        const from = random.below(other.length + 1);
        length = at + other.copy(scratch, at, from, Math.min(other.length, from + random.below(64)));
        break;
      }
      default: {
        const word = random.pick(target.words);
        if (word !== undefined && at + word.length <= length) word.copy(scratch, at);
      }
    }
  }
  return scratch.subarray(0, length);
}
