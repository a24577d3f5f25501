/** Makes and mutates sequences, from the descriptions of the programs. */
import { lockProgram } from '../../../xdr/programs/lock.ts';
import { callOf, callsOf, lockFilter, NAMES, NUMBERS, passingCall, TOUCHY, type ArgsOptions } from './generate-args.ts';
import type { Random } from './random.ts';
import {
  type Call,
  type CallName,
  callNames,
  type Edit,
  type FileAct,
  type ListName,
  programOf,
  type ProgramName,
  type Sequence,
  type Step,
} from './steps.ts';

/** Connections to the lock server are numbered from 0, and those to the admin server from where they end. */
const LOCK_CONNECTIONS = 3;
const ADMIN_CONNECTIONS = 2;
const MAX_STEPS = 120;
/** Of so many restarts in a mutated sequence, one stays. */
const RESTARTS_KEPT = 8;
const FILE_ACTS: readonly [FileAct, ...FileAct[]] = ['create', 'unlink', 'rename', 'link', 'symlink', 'mkdir'];
/** Acts that give no held file a second name. */
const PLAIN_FILE_ACTS: readonly [FileAct, ...FileAct[]] = ['create', 'unlink', 'mkdir'];
const LISTS: readonly [ListName, ...ListName[]] = ['locks', 'locks', 'lockspaces', 'clients'];
/** Calls to choose from, those with the most effects several times. */
const WEIGHTED: readonly [CallName, ...CallName[]] = [
  ...callNames,
  ...Array<CallName>(4).fill('acquireResource'),
  ...Array<CallName>(3).fill('releaseResource'),
  'createResource',
  'deleteResource',
  'createLockspace',
  'register',
];

interface GenerateOptions extends ArgsOptions {
  readonly restarts: boolean;
  /** One step in a hundred times this is a restart. */
  readonly restartOneIn: number;
  /** The programs to call. */
  readonly programs: readonly ProgramName[];
  /** All but one of so many sequences send calls on one connection together. */
  readonly gathers: number;
}

/** Edits that leave the arguments as they are. */
function outerEdit(random: Random, aliases: boolean): Edit {
  switch (random.below(4)) {
    case 0:
      return { header: { [random.pick(['type', 'serial', 'status'])]: random.pick(NUMBERS) } };
    case 1: {
      const announced = random.pick([0, 1, 2, 3, 32, 33, 0xffffffff]);
      return { descriptors: { announced, sent: random.oneIn(4) ? random.below(4) : announced > 32 ? 0 : announced } };
    }
    case 2:
      // With several, C takes the byte that they come with for no descriptor's: see docs/findings.md.
      return { stray: aliases ? 1 + random.below(3) : 1 };
    default: {
      const pieces: number[] = [];
      for (let count = 1 + random.below(6); count > 0; count--) pieces.push(1 + random.below(20));
      return random.oneIn(16) ? { pieces, pause: 1 + random.below(3) } : { pieces };
    }
  }
}

function anyEdit(random: Random, { programs, aliases }: GenerateOptions): Edit {
  switch (random.below(12)) {
    case 0: {
      const numbers = [0, 0x6b656570, lockProgram.number + 1, 0xffffffff];
      for (const program of programs) numbers.push(programOf(program).number);
      return { header: { program: random.pick(numbers) ?? 0 } };
    }
    case 1:
      return { header: { [random.pick(['version', 'procedure'])]: random.pick(NUMBERS) } };
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
    case 8:
      return { header: { program: 0x6b656570, version: 1, procedure: random.pick([1, 1, 1, 2, 3]), type: 2 } };
    default:
      return outerEdit(random, aliases);
  }
}

export class Generator {
  private readonly random: Random;
  private readonly options: GenerateOptions;
  private last = 0;
  private readonly administers: boolean;
  private readonly calls: Readonly<Record<ProgramName, readonly string[]>>;

  constructor(random: Random, options: GenerateOptions) {
    this.random = random;
    this.options = options;
    this.administers = options.programs.some((program) => program !== 'lock');
    this.calls = { lock: WEIGHTED, admin: callsOf('admin', options), inquire: callsOf('inquire', options) };
  }

  /** Often the connection of the step before: successive calls on one connection can be sent together. */
  private connection(): number {
    const { random } = this;
    if (!random.oneIn(3)) return this.last;
    this.last =
      this.administers && random.oneIn(4)
        ? LOCK_CONNECTIONS + random.below(ADMIN_CONNECTIONS)
        : random.below(LOCK_CONNECTIONS);
    return this.last;
  }

  private open(on: number): Step {
    return on >= LOCK_CONNECTIONS ? { op: 'open', on, to: 'admin' } : { op: 'open', on };
  }

  /** A call of a program that the connection's server has, rarely of another. */
  private call(on: number): Call {
    const { random, options } = this;
    const others = options.programs.filter((program) => program !== 'lock');
    const isAdmin = on >= LOCK_CONNECTIONS !== random.oneIn(30);
    const program = isAdmin ? (random.pick(others) ?? 'lock') : 'lock';
    return callOf(program, random.pick(this.calls[program]) ?? 'register', random, options);
  }

  private edit({ program, call }: Call): Edit {
    const { random, options } = this;
    const one = (): Edit =>
      program === 'admin' && TOUCHY.has(call) ? outerEdit(random, options.aliases) : anyEdit(random, options);
    return random.oneIn(4) ? { ...one(), ...one() } : one();
  }

  private step(): Step {
    const { random, options } = this;
    const on = this.connection();
    const kind = random.below(100);
    if (kind < 70) {
      const call = this.call(on);
      const plain = { op: 'call' as const, on, ...call };
      return random.oneIn(5) ? { ...plain, edit: this.edit(call) } : plain;
    }
    if (kind < 76) return { op: 'burst', on, calls: Array.from({ length: 2 + random.below(5) }, () => this.call(on)) };
    if (kind < 86) {
      const act = random.pick(options.aliases ? FILE_ACTS : PLAIN_FILE_ACTS);
      return { op: 'file', act, name: random.pick(NAMES), to: random.pick(NAMES) };
    }
    if (kind < 88 && options.programs.includes('inquire')) {
      const list = random.pick(LISTS);
      const filter = list === 'locks' ? lockFilter(random) : {};
      // In one page: a real daemon knows the lockspaces of a thousand sequences.
      const limit = list === 'lockspaces' ? 0 : random.pick([0, 1, 2, 500]);
      return { op: 'walk', on: LOCK_CONNECTIONS, list, filter, limit };
    }
    if (kind < 91) return { op: 'close', on };
    if (kind < 93) return { op: 'finish', on };
    if (kind < 94)
      return { op: 'reset', on, calls: Array.from({ length: random.below(4) }, () => passingCall(random)) };
    if (kind < 96) return { op: 'raw', on, hex: random.bytes(1 + random.below(40)).toString('hex') };
    if (kind < 97 && options.restarts && random.oneIn(options.restartOneIn)) return { op: 'restart' };
    return this.open(on);
  }

  /** A new sequence: connections that register, then anything. */
  fresh(): Sequence {
    const { random, options } = this;
    const steps: Step[] = [];
    if (!random.oneIn(options.gathers)) steps.push({ op: 'gather' });
    const connections = 1 + random.below(LOCK_CONNECTIONS);
    for (let on = 0; on < connections; on++) {
      steps.push(this.open(on));
      if (!random.oneIn(8)) steps.push({ op: 'call', on, ...callOf('lock', 'register', random, options) });
    }
    if (this.administers && random.oneIn(2)) steps.push(this.open(LOCK_CONNECTIONS));
    steps.push({ op: 'call', on: 0, call: 'createLockspace', args: { path: '~' } });
    for (let count = 8 + random.below(80); count > 0; count--) steps.push(this.step());
    return steps;
  }

  /** A mutated copy, perhaps with a part of another sequence. */
  mutate(sequence: Sequence, other: Sequence): Sequence {
    const { random, options } = this;
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
          if (present?.op === 'call') steps[at] = { ...present, edit: this.edit(present) };
          break;
        case 4:
          if (present?.op === 'call') {
            steps[at] = { ...present, ...callOf(present.program ?? 'lock', present.call, random, options) };
          }
          break;
        default: {
          const from = random.below(other.length);
          steps.splice(at, 0, ...other.slice(from, from + 1 + random.below(8)));
        }
      }
    }
    // A real restart takes as long as a thousand calls: they must not multiply.
    const kept = options.inProcess ? steps : steps.filter(({ op }) => op !== 'restart' || random.oneIn(RESTARTS_KEPT));
    return kept.slice(0, MAX_STEPS);
  }
}
