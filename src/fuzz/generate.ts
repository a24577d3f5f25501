/** Makes sequences from the description of the lock program, and changes them. */
import { lockProgram } from '../../xdr/programs/lock.ts';
import type { Shape } from '../../xdr/schema.ts';
import type { Random } from './random.ts';
import {
  type CallName,
  callNames,
  type Edit,
  type FileAct,
  type Json,
  procedureOf,
  type Sequence,
  type Step,
} from './steps.ts';

/** No process has such a pid, so nobody is killed. */
const PIDS = [5_000_001, 5_000_002, 5_000_003] as const;
const NUMBERS = [0, 1, 2, 3, 4, 7, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff] as const;
const NAMES = ['a', 'b', 'c', 'd', 'link', 'dir'] as const;
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
const CONNECTIONS = 4;
const FILE_ACTS: readonly [FileAct, ...FileAct[]] = ['create', 'unlink', 'rename', 'link', 'symlink', 'mkdir'];
/** Those that give no held file a second name. */
const PLAIN_FILE_ACTS: readonly [FileAct, ...FileAct[]] = ['create', 'unlink', 'mkdir'];
/** Which calls are made, with repetition for those that do most. */
const WEIGHTED: readonly [CallName, ...CallName[]] = [
  ...callNames,
  'acquireResource',
  'acquireResource',
  'acquireResource',
  'acquireResource',
  'releaseResource',
  'releaseResource',
  'releaseResource',
  'createResource',
  'deleteResource',
  'createLockspace',
  'register',
];

export interface GenerateOptions {
  readonly restarts: boolean;
  /** Whether one file may get two names, which C takes for two. */
  readonly aliases: boolean;
  /** How much rarer restarts are than one step in a hundred. */
  readonly restartOneIn: number;
}

function name(random: Random): string {
  return random.oneIn(12) ? random.pick(ODD_NAMES) : random.pick(NAMES);
}

/** Any value of a shape. */
function anyValue(shape: Shape, random: Random): Json {
  switch (shape.kind) {
    case 'u32':
      return random.oneIn(3) ? random.next() : random.pick(NUMBERS);
    case 'string':
      return random.oneIn(40) ? 'y'.repeat(random.pick([4095, 4096, 65535, 65536])) : name(random);
    case 'opaque':
      return random.bytes(shape.length).toString('hex');
    case 'struct':
      return Object.fromEntries(shape.fields.map(([key, field]) => [key, anyValue(field, random)]));
    case 'bool':
      return random.oneIn(2);
    default:
      return random.pick(NUMBERS) & 0x7fffffff;
  }
}

/** Arguments that mostly make sense. */
function args(call: CallName, random: Random, aliases: boolean): Json {
  if (aliases && random.oneIn(60)) return harmless(anyValue(procedureOf(call).args.shape, random));
  const badFlags = random.oneIn(40) ? random.next() : 0;
  switch (call) {
    case 'register': {
      const pid = random.pick(PIDS);
      const id = random.oneIn(30) ? 0 : pid % 100;
      return { owner: { uuid: '00'.repeat(15) + '07', name: name(random), id, pid }, flags: badFlags };
    }
    case 'restrict':
      return { flags: random.oneIn(6) ? 0 : 1 };
    case 'newLockspace':
    case 'createLockspace': {
      const path = random.oneIn(10) ? `~/${name(random)}` : random.pick(aliases ? LOCKSPACES : PLAIN_LOCKSPACES);
      return call === 'createLockspace' ? { path } : { path, flags: badFlags };
    }
    default: {
      const path = random.pick(aliases ? LOCKSPACES : PLAIN_LOCKSPACES);
      const file = aliases ? name(random) : random.pick(NAMES);
      const flags = call === 'acquireResource' ? (random.pick([0, 1, 2, 2, 2, 3]) | badFlags) >>> 0 : badFlags;
      if (path !== '') return { path, name: file, flags };
      // A name of its own, where no two may mean one file.
      return { path, name: aliases ? `~/${file}` : `~/by-path-${file}`, flags };
    }
  }
}

/** No argument may name a real process as owner: its locks' end would be the process's. */
function harmless(value: Json): Json {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const record = value as Record<string, Json>;
  return Object.fromEntries(
    Object.entries(record).map(([key, item]) =>
      key === 'pid' && typeof item === 'number' && item > 0 && item < 4_200_000
        ? [key, item + 5_000_000]
        : [key, harmless(item)],
    ),
  );
}

function edit(random: Random): Edit {
  switch (random.below(12)) {
    case 0:
      return { header: { program: random.pick([0, 0x6b656570, 0x06900690, lockProgram.number + 1, 0xffffffff]) } };
    case 1:
      return {
        header: {
          [random.pick(['version', 'procedure', 'type', 'serial', 'status'])]: random.pick(NUMBERS),
        },
      };
    case 2:
      return { header: { type: random.pick([1, 2, 3, 5, 6, 7, 0xffffffff]) } };
    case 3:
      return { cut: 1 + random.below(12) };
    case 4:
      return { tail: random.bytes(1 + random.below(40)).toString('hex') };
    case 5:
      return { length: random.pick([0, 3, 4, 5, 27, 28, 29, 33554437, 0x7fffffff, 0xffffffff]) };
    case 6:
      return {
        put: [[28 + 4 * random.below(12), random.pick(['00000000', '00010000', '00010001', '7fffffff', 'ffffffff'])]],
      };
    case 7:
      return { put: [[28 + random.below(60), random.bytes(1).toString('hex')]] };
    case 8: {
      const announced = random.pick([0, 1, 2, 3, 32, 33, 0xffffffff]);
      return { descriptors: { announced, sent: random.oneIn(4) ? random.below(4) : announced > 32 ? 0 : announced } };
    }
    case 9:
      return { stray: 1 + random.below(3) };
    case 10:
      return { header: { program: 0x6b656570, version: 1, procedure: random.pick([1, 1, 1, 2, 3]), type: 2 } };
    default: {
      const pieces: number[] = [];
      for (let count = 1 + random.below(6); count > 0; count--) pieces.push(1 + random.below(20));
      return { pieces };
    }
  }
}

export class Generator {
  private readonly random: Random;
  private readonly options: GenerateOptions;

  constructor(random: Random, options: GenerateOptions) {
    this.random = random;
    this.options = options;
  }

  private step(): Step {
    const { random } = this;
    const on = random.below(CONNECTIONS);
    const kind = random.below(100);
    if (kind < 70) {
      const call = random.pick(WEIGHTED);
      const plain = { op: 'call' as const, on, call, args: args(call, random, this.options.aliases) };
      return random.oneIn(5) ? { ...plain, edit: edit(random) } : plain;
    }
    if (kind < 76) {
      const calls = Array.from({ length: 2 + random.below(5) }, () => {
        const call = random.pick(WEIGHTED);
        return { call, args: args(call, random, this.options.aliases) };
      });
      return { op: 'burst', on, calls };
    }
    if (kind < 88) {
      const to = random.pick(NAMES);
      return {
        op: 'file',
        act: random.pick(this.options.aliases ? FILE_ACTS : PLAIN_FILE_ACTS),
        name: random.pick(NAMES),
        to,
      };
    }
    if (kind < 92) return { op: 'close', on };
    if (kind < 94) return { op: 'finish', on };
    if (kind < 96) return { op: 'raw', on, hex: random.bytes(1 + random.below(40)).toString('hex') };
    if (kind < 97 && this.options.restarts && random.oneIn(this.options.restartOneIn)) return { op: 'restart' };
    return { op: 'open', on };
  }

  /** A new sequence: connections that register, then anything. */
  fresh(): Sequence {
    const { random } = this;
    const steps: Step[] = [];
    const connections = 1 + random.below(3);
    for (let on = 0; on < connections; on++) {
      steps.push({ op: 'open', on });
      if (!random.oneIn(8))
        steps.push({ op: 'call', on, call: 'register', args: args('register', random, this.options.aliases) });
    }
    steps.push({ op: 'call', on: 0, call: 'createLockspace', args: { path: '~' } });
    for (let count = 4 + random.below(60); count > 0; count--) steps.push(this.step());
    return steps;
  }

  /** A changed copy, perhaps with a part of another sequence. */
  mutate(sequence: Sequence, other: Sequence): Sequence {
    const { random } = this;
    const steps = [...sequence];
    for (let count = 1 + random.below(4); count > 0; count--) {
      const at = random.below(steps.length + 1);
      const present = steps[at];
      switch (random.below(6)) {
        case 0:
          steps.splice(at, 0, this.step());
          break;
        case 1:
          steps.splice(at, 1);
          break;
        case 2:
          if (present !== undefined) steps.splice(at, 0, present);
          break;
        case 3:
          if (present?.op === 'call') steps[at] = { ...present, edit: edit(random) };
          break;
        case 4:
          if (present?.op === 'call')
            steps[at] = { ...present, args: args(present.call, random, this.options.aliases) };
          break;
        default: {
          const from = random.below(other.length);
          steps.splice(at, 0, ...other.slice(from, from + 1 + random.below(8)));
        }
      }
    }
    return steps.slice(0, 80);
  }
}
