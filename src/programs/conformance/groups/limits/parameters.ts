/** Typed parameters: SET_THREADPOOL and SET_LIMITS. */
import { type Bytes, text, u32 } from '../../../../lab/wire.ts';
import { parameter, parameters } from '../../../../lab/admin-calls.ts';
import { type Exchange, type Step, admin, call, close, exchange, fresh, open } from '../../exchange/script.ts';

const { uint } = parameter;
const max = 'nclients_max';
const unauth = 'nclients_unauth_max';

const set = (procedure: number, server: Bytes, list: readonly Buffer[], flags = 0): Step =>
  call('admin', admin(procedure, text(server), parameters(...list), u32(flags)));
const pool = (...list: readonly Buffer[]): Step => set(7, 'virtlockd', list);
const limits = (...list: readonly Buffer[]): Step => set(13, 'virtlockd', list);
const getPool = call('admin', admin(6, text('virtlockd'), u32(0)));
const getLimits = call('admin', admin(12, text('virtlockd'), u32(0)));

/** A parameter of every type but uint. */
const others: readonly (readonly [string, (field: Bytes) => Buffer])[] = [
  ['an int', (field) => parameter.int(field, 5)],
  ['a long long', (field) => parameter.llong(field, 5n)],
  ['a negative long long', (field) => parameter.llong(field, -1n)],
  ['an unsigned long long', (field) => parameter.ullong(field, 0xffff_ffff_ffff_ffffn)],
  ['a double', (field) => parameter.double(field, 5)],
  ['a double that is no number', (field) => parameter.double(field, Number.NaN)],
  ['a boolean', (field) => parameter.boolean(field, 1)],
  ['a boolean of 5', (field) => parameter.boolean(field, 5)],
  ['a string', (field) => parameter.string(field, '5')],
  ['an empty string', (field) => parameter.string(field, '')],
];

/** Exchanges for both procedures: `known` is one of its parameters, `second` another that sorts after it. */
const common = (title: string, procedure: number, known: string, second: string): readonly Exchange[] => {
  const put = (...list: readonly Buffer[]): Step => set(procedure, 'virtlockd', list);
  return [
    fresh(`${title} without parameters`, `${title} without parameters succeeds and changes nothing.`, () => [put()]),
    fresh(`${title} with flags`, `${title} checks the server, then the flags, then the parameters.`, () => [
      set(procedure, 'virtlockd', [], 1),
      set(procedure, 'virtlockd', [uint('unknown', 1)], 2),
      set(procedure, 'virtlockd', [uint(known, 1)], 0xffff_ffff),
      set(procedure, 'nobody', [], 1),
    ]),
    exchange(
      `${title} of servers that there are not`,
      `${title} of an unknown server is an error that names it, before parameters are checked.`,
      () => [
        set(procedure, 'nobody', []),
        set(procedure, '', []),
        set(procedure, 'nobody', [uint('unknown', 1)]),
        set(procedure, Buffer.of(0xff), [uint(known, 1)]),
      ],
    ),
    ...others.map(([type, other], index) =>
      exchange(`${title}: wrong type ${index}`, `${title} refuses ${known} as ${type}: it is an unsigned int.`, () => [
        put(other(known)),
      ]),
    ),
    ...others.map(([type, other], index) =>
      exchange(
        `${title}: unknown parameter of type ${index}`,
        `${title} refuses a parameter it does not know, given as ${type}.`,
        () => [put(other('unknown'))],
      ),
    ),
    ...[0, 8, 99, 0xffff_ffff].map((type) =>
      exchange(
        `${title}: type ${type | 0} does not exist`,
        `${title} with a parameter of type ${type | 0}, which does not exist, is a decoding error.`,
        () => [put(parameter.other(known, type))],
      ),
    ),
    exchange(`${title}: twice`, `${title} refuses one parameter given twice.`, () => [
      put(uint(known, 1), uint(known, 1)),
    ]),
    exchange(`${title}: three times`, `${title} refuses one parameter given three times.`, () => [
      put(uint(known, 1), uint(known, 2), uint(known, 3)),
    ]),
    exchange(
      `${title}: twice, the second of the wrong type`,
      `${title} reports a parameter given twice before the second one's wrong type.`,
      () => [put(uint(known, 1), parameter.int(known, 1))],
    ),
    exchange(
      `${title}: twice, the first of the wrong type`,
      `${title} reports the first one's wrong type before the parameter given twice.`,
      () => [put(parameter.int(known, 1), uint(known, 1))],
    ),
    exchange(
      `${title}: twice with another between`,
      `${title} refuses one parameter given twice with another between.`,
      () => [put(uint(known, 1), uint(second, 1), uint(known, 1))],
    ),
    exchange(
      `${title}: unknown and twice`,
      `${title} checks parameters in the order of their names, for unknown and repeated ones alike.`,
      () => [
        put(uint('unknown', 1), uint('unknown', 1)),
        put(uint('unknown', 1), uint(known, 1), uint(known, 1)),
        put(uint('aaa', 1), uint(known, 1), uint(known, 1)),
        put(uint(known, 1), uint(known, 1), uint('zzz', 1)),
      ],
    ),
    exchange(
      `${title}: unknown and wrong type`,
      `${title} checks parameters in the order of their names, for unknown ones and wrong types alike.`,
      () => [
        put(uint('aaa', 1), parameter.int(known, 1)),
        put(parameter.int(known, 1), uint('aaa', 1)),
        put(uint('zzz', 1), parameter.int(known, 1)),
        put(parameter.int(known, 1), uint('zzz', 1)),
      ],
    ),
    exchange(`${title}: two unknown`, `${title} reports the unknown parameter that sorts first.`, () => [
      put(uint('zzz', 1), uint('aaa', 1)),
      put(uint('aaa', 1), uint('zzz', 1)),
    ]),
    exchange(
      `${title}: one twice, another of the wrong type`,
      `${title} reports whichever fault sorts first by its parameter's name.`,
      () => [
        put(uint(second, 1), uint(second, 1), parameter.int(known, 1)),
        put(uint(known, 1), uint(known, 1), parameter.int(second, 1)),
      ],
    ),
    exchange(
      `${title}: names of every kind`,
      `${title} refuses parameter names of every kind but its own, and says a long one is too big.`,
      () =>
        [
          '',
          ' ',
          known.toUpperCase(),
          `${known} `,
          Buffer.from(`${known}\0x`),
          Buffer.of(0xff, 0xfe),
          '%s%n',
          'n'.repeat(79),
          'n'.repeat(80),
          'n'.repeat(81),
          'n'.repeat(4000),
        ].map((field) => put(uint(field, 0))),
    ),
    exchange(
      `${title}: a name too long behind others`,
      `${title} reports a name of 80 bytes or more before any other fault.`,
      () => [put(uint('unknown', 1), uint('n'.repeat(80), 1)), put(parameter.int(known, 1), uint('n'.repeat(80), 1))],
    ),
    exchange(`${title}: 32 and 33 parameters`, `${title} takes at most 32 parameters in a request.`, () => [
      put(...Array.from({ length: 32 }, () => uint('unknown', 1))),
      put(...Array.from({ length: 33 }, () => uint('unknown', 1))),
      put(...Array.from({ length: 33 }, () => uint(known, 1))),
    ]),
    exchange(`${title}: a count that lies`, `${title} with a wrong count of parameters is a decoding error.`, () =>
      [1, 32, 33, 0xffff_ffff].map((count) => call('admin', admin(procedure, text('virtlockd'), u32(count), u32(0)))),
    ),
    exchange(`${title}: cut off`, `${title} cut off anywhere is answered by a decoding error.`, () => {
      const whole = Buffer.concat([text('virtlockd'), parameters(uint(known, 1)), u32(0)]);
      return [0, 16, 20, 24, 36, 40, 44].map((at) => call('admin', admin(procedure, whole.subarray(0, at))));
    }),
  ];
};

export const parameterExchanges: readonly Exchange[] = [
  ...common('SET_THREADPOOL', 7, 'maxWorkers', 'minWorkers'),
  ...common('SET_LIMITS', 13, max, unauth),

  ...['minWorkers', 'maxWorkers', 'prioWorkers'].flatMap((field) =>
    [0, 1, 3].map((value) =>
      fresh(
        `SET_THREADPOOL ${field} ${value}`,
        `SET_THREADPOOL takes or refuses ${value} as ${field}, and GET_THREADPOOL agrees.`,
        () => [pool(uint(field, value)), getPool],
      ),
    ),
  ),
  fresh('SET_THREADPOOL: greatest values', 'SET_THREADPOOL takes or refuses the greatest values without harm.', () => [
    pool(uint('minWorkers', 0xffff_ffff)),
    pool(uint('maxWorkers', 0xffff_ffff)),
    getPool,
  ]),
  fresh(
    'SET_THREADPOOL: minimum and maximum',
    'SET_THREADPOOL refuses a minimum above the maximum, and changes nothing then.',
    () => [
      pool(uint('minWorkers', 1), uint('maxWorkers', 1)),
      pool(uint('minWorkers', 1), uint('maxWorkers', 5)),
      pool(uint('maxWorkers', 5), uint('minWorkers', 6)),
      pool(uint('maxWorkers', 0), uint('minWorkers', 0)),
      pool(uint('prioWorkers', 2), uint('minWorkers', 6)),
      pool(uint('prioWorkers', 2), uint('maxWorkers', 6)),
      getPool,
    ],
  ),
  fresh('SET_THREADPOOL: only to be read', 'SET_THREADPOOL refuses read-only parameters.', () =>
    ['nWorkers', 'freeWorkers', 'jobQueueDepth'].flatMap((field) => [pool(uint(field, 0))]),
  ),
  fresh('SET_THREADPOOL of one server', "SET_THREADPOOL changes one server's workers and leaves the other's.", () => [
    pool(uint('prioWorkers', 2)),
    getPool,
    call('admin', admin(6, text('admin'), u32(0))),
    // Not read back: C counts the workers that are still on their way out.
    pool(uint('prioWorkers', 0)),
  ]),

  ...[
    { [max]: 100 },
    { [unauth]: 50 },
    { [max]: 1024 },
    { [max]: 5000 },
    { [unauth]: 1025 },
    { [max]: 30, [unauth]: 20 },
    { [unauth]: 25, [max]: 40 },
    { [unauth]: 25, [max]: 25 },
    { [unauth]: 26, [max]: 25 },
    { [max]: 0, [unauth]: 0 },
    { [max]: 0xffff_ffff, [unauth]: 0xffff_ffff },
    { [max]: 0xffff_ffff },
    { [unauth]: 0 },
    { [max]: 0 },
  ].map((values: Readonly<Record<string, number>>) => {
    const entries = Object.entries(values);
    const title = entries.map(([field, value]) => `${field} ${value}`).join(', ');
    return fresh(
      `SET_LIMITS ${title}`,
      `SET_LIMITS takes ${title} if the limits then agree, else sets neither.`,
      () => [limits(...entries.map(([field, value]) => uint(field, value))), getLimits],
    );
  }),
  fresh('SET_LIMITS, one after the other', 'SET_LIMITS compares a new limit with the present other one.', () => [
    limits(uint(unauth, 50)),
    limits(uint(max, 100)),
    limits(uint(unauth, 101)),
    limits(uint(max, 49)),
    getLimits,
    limits(uint(max, 50)),
    getLimits,
  ]),
  fresh('SET_LIMITS: only to be read', 'SET_LIMITS refuses the counts of present clients, which are read-only.', () => [
    limits(uint('nclients', 5)),
    limits(uint('nclients_unauth', 5)),
    getLimits,
  ]),
  fresh(
    'SET_LIMITS: nothing is set when one parameter is bad',
    'SET_LIMITS sets nothing when one parameter is bad.',
    () => [limits(uint(max, 2000), uint('unknown', 1)), limits(uint(max, 2000), parameter.int(unauth, 1)), getLimits],
  ),
  fresh('SET_LIMITS of the other server', "SET_LIMITS changes one server's limits and leaves the other's.", () => [
    set(13, 'admin', [uint(max, 7), uint(unauth, 7)]),
    call('admin', admin(12, text('admin'), u32(0))),
    getLimits,
  ]),
  fresh(
    'SET_LIMITS below the present number closes nobody',
    'SET_LIMITS below the present number of clients closes no client.',
    () => [open('a'), open('b'), limits(uint(max, 1), uint(unauth, 1)), getLimits, close('a'), getLimits],
  ),
];
