/** REGISTER and RESTRICT, decoding, and the checks that every procedure makes first. */
import { type Bytes, type Call, lock, text, u32 } from '../../../../lab/wire.ts';
import { type Exchange, call, exchange, files } from '../../exchange/script.ts';

const pid = 5_000_301;
const register = (change: { pid?: number; id?: number; name?: Bytes } = {}, flags = 0): Call =>
  lock.register({ pid, ...change }, flags);
const file = files('file disk');
const raw = (procedure: number, ...parts: readonly Uint8Array[]): Call => ({
  procedure,
  payload: Buffer.concat(parts),
});
const name = (length: number): string => 'n'.repeat(length);

/** Every procedure, with its flags. */
const procedures: readonly (readonly [string, (flags: number) => Call])[] = [
  ['REGISTER', (flags) => register({}, flags)],
  ['RESTRICT', (flags) => lock.restrict(flags)],
  ['NEW', (flags) => lock.newLockspace('/nowhere', flags)],
  ['CREATE_RESOURCE', (flags) => lock.createResource('', '/virtlockd-missing/r', flags)],
  ['DELETE_RESOURCE', (flags) => lock.deleteResource('', '/virtlockd-missing/r', flags)],
  ['ACQUIRE_RESOURCE', (flags) => lock.acquire('', '/virtlockd-missing/r', flags)],
  ['RELEASE_RESOURCE', (flags) => lock.release('', '/virtlockd-missing/r', flags)],
];
const all: typeof procedures = [...procedures, ['CREATE_LOCKSPACE', () => lock.createLockspace('')]];

/** Procedures that need no registration. */
const needsNone = ['REGISTER', 'CREATE_LOCKSPACE'];

export const ownerExchanges: readonly Exchange[] = [
  ...procedures.map(([title, request]) =>
    exchange(
      `flags ${title} does not know, before registering`,
      `${title} reports unknown flags before a missing registration.`,
      () => [...[4, 8, 0x8000_0000, 0xffff_ffff].map((flags) => call('a', request(flags)))],
    ),
  ),
  ...procedures.map(([title, request]) =>
    exchange(
      `flags ${title} does not know win over the restriction`,
      `${title} reports unknown flags before a restriction.`,
      () => [call('a', register()), call('a', lock.restrict()), call('a', request(12))],
    ),
  ),
  exchange(
    'flags 1 and 2 where there are none',
    'The flags 1 and 2 are known to ACQUIRE_RESOURCE alone; every other procedure with flags refuses them.',
    () => [
      call('a', register()),
      ...all.flatMap(([, request]) => [call('a', request(1)), call('a', request(2)), call('a', request(3))]),
    ],
  ),
  ...all.map(([title, request]) =>
    exchange(`${title} on a restricted connection`, `${title} is forbidden on a restricted connection.`, () => [
      call('a', register()),
      call('a', lock.restrict()),
      call('a', request(0)),
    ]),
  ),
  ...all.map(([title, request]) =>
    exchange(
      `${title} before registering`,
      `${title} ${needsNone.includes(title) ? 'needs no registration before it' : 'is refused before an owner has registered'}.`,
      () => [call('a', request(0))],
    ),
  ),
  ...all.map(([title, request]) =>
    exchange(
      `${title} whose arguments are cut off`,
      `${title} whose arguments are cut off anywhere is answered by a decoding error.`,
      () => {
        const { procedure, payload } = request(0);
        return [
          call('a', register()),
          ...[0, 1, 4, payload.length - 4, payload.length - 1].map((length) =>
            call('a', { procedure, payload: payload.subarray(0, Math.max(length, 0)) }),
          ),
        ];
      },
    ),
  ),
  ...all.map(([title, request]) =>
    exchange(`${title} with bytes behind its arguments`, `${title} ignores bytes behind its arguments.`, () => {
      const { procedure, payload } = request(0);
      return [
        call('a', register()),
        ...[1, 4, 100].map((length) =>
          call('a', { procedure, payload: Buffer.concat([payload, Buffer.alloc(length, 0xee)]) }),
        ),
      ];
    }),
  ),
  exchange('REGISTER with id 0', 'REGISTER with id 0 succeeds and registers no owner.', () => [
    call('a', register({ id: 0 })),
    call('a', lock.restrict()),
  ]),
  exchange(
    'REGISTER with id 0 keeps the former registration',
    'REGISTER with id 0 leaves a former registration as it was.',
    (dir) => [
      file,
      call('a', register()),
      call('a', register({ id: 0, pid: 5_000_302 })),
      call('a', lock.acquire('', `${dir}/disk`)),
      call('b', register()),
      call('b', lock.release('', `${dir}/disk`)),
    ],
  ),
  exchange('REGISTER with pid 0', 'An owner may have pid 0.', (dir) => [
    file,
    call('a', register({ pid: 0, id: 1 })),
    call('a', lock.acquire('', `${dir}/disk`)),
    call('a', lock.release('', `${dir}/disk`)),
    call('a', lock.release('', `${dir}/disk`)),
  ]),
  exchange('REGISTER with the greatest pid and id', 'An owner may have the greatest pid and id there are.', (dir) => [
    file,
    call('a', register({ pid: 0xffff_ffff, id: 0xffff_ffff })),
    call('a', lock.acquire('', `${dir}/disk`)),
    call('b', register({ pid: 5_000_302 })),
    call('b', lock.release('', `${dir}/disk`)),
    call('a', lock.release('', `${dir}/disk`)),
  ]),
  exchange('REGISTER with pid 80000000 in an error', 'An error that names an owner prints its pid signed.', (dir) => [
    file,
    call('a', register()),
    call('a', lock.acquire('', `${dir}/disk`)),
    call('b', register({ pid: 0x8000_0000 })),
    call('b', lock.release('', `${dir}/disk`)),
    call('a', lock.release('', `${dir}/disk`)),
  ]),
  exchange('REGISTER twice', 'A connection may register twice.', () => [call('a', register()), call('a', register())]),
  exchange(
    'REGISTER as another keeps what the first one holds',
    'What an owner holds stays its own when the connection registers as another.',
    (dir) => [
      file,
      call('a', register()),
      call('a', lock.acquire('', `${dir}/disk`)),
      call('a', register({ pid: 5_000_302 })),
      call('a', lock.release('', `${dir}/disk`)),
      call('a', lock.acquire('', `${dir}/disk`)),
      call('a', register()),
      call('a', lock.release('', `${dir}/disk`)),
    ],
  ),
  exchange('REGISTER with names of every kind', "An owner's name may be any bytes, up to 65536 of them.", () =>
    ['', 'a', name(65_536), name(65_537), Buffer.of(0xff, 0xfe), Buffer.from('a\0b'), Buffer.from('\0'), '%s%n'].map(
      (value) => call('a', register({ name: value })),
    ),
  ),
  exchange('REGISTER with padding that is not zero', 'Padding behind a string may be anything.', () => [
    call('a', raw(1, Buffer.alloc(16), u32(1), Buffer.of(0x61, 0xff, 0xff, 0xff), u32(1), u32(pid), u32(0))),
    call('a', lock.restrict()),
  ]),
  exchange(
    'a string whose length lies',
    'A string whose length is not that of its bytes is answered by a decoding error.',
    () => [
      call('a', register()),
      ...[9, 65_537, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((length) =>
        call('a', raw(8, u32(length), Buffer.from('/nowhere').subarray(0, 8))),
      ),
    ],
  ),
  exchange(
    'strings at their limit',
    'Strings of the lock program have at most 65536 bytes; a longer one is a decoding error.',
    (dir) => [
      call('a', register()),
      ...[65_536, 65_537].flatMap((length) => [
        call('a', lock.release('', name(length))),
        call('a', lock.release(name(length), 'r')),
        call('a', lock.createLockspace(`/${name(length - 1)}`)),
        call('a', raw(6, text(dir), text(name(length)), u32(0))),
      ]),
    ],
  ),
  exchange('RESTRICT twice', 'RESTRICT forbids the next RESTRICT too.', () => [
    call('a', register()),
    call('a', lock.restrict()),
    call('a', lock.restrict()),
  ]),
  exchange(
    'RESTRICT is of the connection, not of the owner',
    "A restriction is one connection's: others of the same owner go on.",
    () => [
      call('a', register()),
      call('a', lock.restrict()),
      call('b', register()),
      call('b', lock.restrict()),
      call('c', register()),
      call('c', lock.release('', 'nothing')),
    ],
  ),
];
