/** Shared holds, and the order of their releases. */
import { autocreate, lock, shared } from '../../../../lab/wire.ts';
import { type Exchange, type Step, call, close, exchange, files, look } from '../../exchange/script.ts';

const owners = { a: 5_000_601, b: 5_000_602, c: 5_000_603 } as const;
type Name = keyof typeof owners;
const register = (...names: readonly Name[]): Step[] =>
  names.map((name) => call(name, lock.register({ pid: owners[name] })));
const acquire = (on: Name, path: string, flags: number = shared): Step => call(on, lock.acquire('', path, flags));
const release = (on: Name, path: string): Step => call(on, lock.release('', path));
const file = files('file r');

const orders: readonly (readonly Name[])[] = [
  ['a', 'b', 'c'],
  ['a', 'c', 'b'],
  ['b', 'a', 'c'],
  ['b', 'c', 'a'],
  ['c', 'a', 'b'],
  ['c', 'b', 'a'],
];
const flagNames = ['0', 'SHARED', 'AUTOCREATE', 'SHARED AUTOCREATE'] as const;

export const sharing: readonly Exchange[] = [
  ...orders.map((order) =>
    exchange(
      `three owners share, and leave in the order ${order.join(' ')}`,
      `Each of three sharers releases its own hold, and the last one the lock: order ${order.join(' ')}.`,
      (dir) => [
        ...register('a', 'b', 'c'),
        acquire('a', `${dir}/r`, shared | autocreate),
        acquire('b', `${dir}/r`),
        acquire('c', `${dir}/r`),
        ...order.flatMap((name) => [release(name, `${dir}/r`), look, release(name, `${dir}/r`)]),
      ],
    ),
  ),
  ...flagNames.map((title, flags) =>
    exchange(
      `held with ${title}, wanted by another with all flags`,
      `A lease held with ${title === '0' ? 'no flags' : title} ${title.startsWith('SHARED') ? 'is shared with another owner that asks for SHARED' : 'is given to no other owner'}.`,
      (dir) => [
        file,
        ...register('a', 'b'),
        acquire('a', `${dir}/r`, flags),
        ...flagNames.map((_, wanted) => acquire('b', `${dir}/r`, wanted)),
        release('b', `${dir}/r`),
        release('b', `${dir}/r`),
        release('b', `${dir}/r`),
        release('a', `${dir}/r`),
        look,
      ],
    ),
  ),
  ...flagNames.map((title, flags) =>
    exchange(
      `held with ${title}, wanted by the same owner with all flags`,
      `An owner that asks again for what it holds with ${title === '0' ? 'no flags' : title} ${title.startsWith('SHARED') ? 'gets a further hold when it asks for SHARED' : 'is refused like any other'}.`,
      (dir) => [
        file,
        ...register('a'),
        acquire('a', `${dir}/r`, flags),
        ...flagNames.map((_, wanted) => acquire('a', `${dir}/r`, wanted)),
        look,
        release('a', `${dir}/r`),
        look,
        release('a', `${dir}/r`),
        release('a', `${dir}/r`),
        release('a', `${dir}/r`),
        look,
      ],
    ),
  ),
  exchange(
    'an owner several times over, between others',
    'Every hold is released one by one, by its own owner.',
    (dir) => [
      file,
      ...register('a', 'b'),
      acquire('a', `${dir}/r`),
      acquire('b', `${dir}/r`),
      acquire('a', `${dir}/r`),
      acquire('b', `${dir}/r`),
      acquire('a', `${dir}/r`),
      ...(['b', 'a', 'b', 'b', 'a', 'a', 'a'] as const).flatMap((name) => [release(name, `${dir}/r`), look]),
    ],
  ),
  exchange(
    'the flags of the first count at the end: AUTOCREATE by the first',
    'The file is unlinked at the end when the first owner asked for AUTOCREATE.',
    (dir) => [
      ...register('a', 'b'),
      acquire('a', `${dir}/r`, shared | autocreate),
      acquire('b', `${dir}/r`),
      release('a', `${dir}/r`),
      look,
      release('b', `${dir}/r`),
    ],
  ),
  exchange(
    'the flags of the first count at the end: AUTOCREATE by the second',
    'The file stays at the end when only a later owner asked for AUTOCREATE.',
    (dir) => [
      file,
      ...register('a', 'b'),
      acquire('a', `${dir}/r`),
      acquire('b', `${dir}/r`, shared | autocreate),
      release('a', `${dir}/r`),
      release('b', `${dir}/r`),
    ],
  ),
  exchange(
    'from shared to exclusive and back',
    'A shared lease becomes exclusive only by being released and acquired.',
    (dir) => [
      file,
      ...register('a'),
      acquire('a', `${dir}/r`),
      acquire('a', `${dir}/r`, 0),
      release('a', `${dir}/r`),
      acquire('a', `${dir}/r`, 0),
      look,
      acquire('a', `${dir}/r`),
      release('a', `${dir}/r`),
      acquire('a', `${dir}/r`),
      look,
      release('a', `${dir}/r`),
    ],
  ),
  exchange(
    'locks stay when a connection ends that is not the owner',
    'A lease outlives a connection that acquired it for another process.',
    (dir) => [
      file,
      ...register('a', 'b'),
      acquire('a', `${dir}/r`, 0),
      close('a'),
      look,
      acquire('b', `${dir}/r`, 0),
      release('b', `${dir}/r`),
      call('c', lock.register({ pid: owners.a })),
      release('c', `${dir}/r`),
    ],
  ),
  exchange(
    'a restricted connection keeps its locks, and another gives them back',
    'A restriction takes no lease away, and another connection of the owner may release it.',
    (dir) => [
      file,
      ...register('a'),
      acquire('a', `${dir}/r`, 0),
      call('a', lock.restrict()),
      release('a', `${dir}/r`),
      look,
      call('b', lock.register({ pid: owners.a })),
      release('b', `${dir}/r`),
    ],
  ),
  exchange(
    'two resources under two names for one directory',
    'A release must name the resource as the acquire did.',
    (dir) => [
      file,
      ...register('a'),
      acquire('a', `${dir}/r`),
      acquire('a', `${dir}/./r`),
      release('a', `${dir}//r`),
      release('a', `${dir}/./r`),
      release('a', `${dir}/r`),
    ],
  ),
];
