/** NEW and CREATE_LOCKSPACE, and resources in lockspaces. */
import { type Bytes, autocreate, lock, shared } from '../../../../lab/wire.ts';
import { type Exchange, type Step, call, exchange, files, look } from '../../exchange/script.ts';

const pid = 5_000_401;
const register = (on = 'a'): Step => call(on, lock.register({ pid }));
const both = (path: Bytes): Step[] => [call('a', lock.newLockspace(path)), call('a', lock.createLockspace(path))];
const bytes = (...parts: readonly (string | Buffer)[]): Buffer => Buffer.concat(parts.map((part) => Buffer.from(part)));

const promises = {
  works: (procedure: string, name: string) =>
    `${procedure} makes a lockspace, and missing directories with mode 0700: ${name}.`,
  NEW: (name: string) => `NEW succeeds without making anything where there can be no lockspace: ${name}.`,
  CREATE_LOCKSPACE: (name: string) => `CREATE_LOCKSPACE reports the error where there can be no lockspace: ${name}.`,
};

/** NEW and CREATE_LOCKSPACE of one path, and then calls in the lockspace. */
const attempt = (
  name: string,
  works: boolean,
  path: (dir: string) => Bytes,
  ...orders: readonly string[]
): readonly Exchange[] =>
  (
    [
      ['NEW', lock.newLockspace],
      ['CREATE_LOCKSPACE', lock.createLockspace],
    ] as const
  ).map(([procedure, request]) => ({
    name: `${procedure}: ${name}`,
    promise: works ? promises.works(procedure, name) : promises[procedure](name),
    // When NEW cannot make the directory, C answers success and from then on frees no owner's leases.
    spoils: procedure === 'NEW',
    steps: (dir) => [
      ...(orders.length === 0 ? [] : [files(...orders)]),
      register(),
      call('a', request(path(dir))),
      call('a', lock.acquire(path(dir), 'r', autocreate)),
      call('a', request(path(dir))),
      look,
      call('a', lock.release(path(dir), 'r')),
    ],
  }));

export const lockspaces: readonly Exchange[] = [
  exchange(
    'the default lockspace exists',
    'The default lockspace exists from the start: NEW refuses it and CREATE_LOCKSPACE accepts it.',
    () => [register(), ...both('')],
  ),
  exchange(
    'CREATE_LOCKSPACE needs no registration',
    'CREATE_LOCKSPACE makes a lockspace without a registration.',
    (dir) => [
      call('a', lock.createLockspace(`${dir}/ls`)),
      register(),
      call('a', lock.createResource(`${dir}/ls`, 'r')),
    ],
  ),
  ...attempt('a new directory', true, (dir) => `${dir}/ls`),
  ...attempt('below parents that are missing', true, (dir) => `${dir}/p/q/r`),
  ...attempt('a directory that is there', true, (dir) => `${dir}/ls`, 'dir ls'),
  ...attempt('a file in the way', false, (dir) => `${dir}/ls`, 'file ls'),
  ...attempt('a fifo in the way', false, (dir) => `${dir}/ls`, 'fifo ls'),
  ...attempt('a file for a parent', false, (dir) => `${dir}/file/ls`, 'file file'),
  ...attempt('a symbolic link to a directory', true, (dir) => `${dir}/link`, 'dir ls', 'link link ls'),
  ...attempt('a symbolic link to nothing', false, (dir) => `${dir}/link`, 'link link nothing'),
  ...attempt('a symbolic link to a file', false, (dir) => `${dir}/link`, 'file file', 'link link file'),
  ...attempt('a loop of symbolic links', false, (dir) => `${dir}/link/ls`, 'link link link'),
  ...attempt('a parent that is a link to nothing', false, (dir) => `${dir}/link/ls`, 'link link nothing'),
  ...attempt('a slash at the end', true, (dir) => `${dir}/ls/`),
  ...attempt('slashes at the end', true, (dir) => `${dir}/p/ls///`),
  ...attempt('doubled slashes and dots', true, (dir) => `${dir}//p/./q/../ls`),
  ...attempt('bytes that are no text', true, (dir) => bytes(dir, '/', Buffer.of(0xff, 0xfe, 1, 0x7f))),
  ...attempt('an embedded NUL', true, (dir) => bytes(dir, '/ls\0junk')),
  ...attempt('a component of 255 bytes', true, (dir) => `${dir}/${'c'.repeat(255)}`),
  ...attempt('a component of 256 bytes', false, (dir) => `${dir}/${'c'.repeat(256)}`),
  ...attempt('a path of 6000 bytes', false, () => '/a'.repeat(3000)),
  ...attempt('a path whose first component has 400 bytes', false, () => `/${'c'.repeat(400)}`),
  ...attempt('where no directory can be made, in /proc', false, () => '/proc/virtlockd-x/y'),
  ...attempt('where no directory can be made, in /sys', false, () => '/sys/virtlockd-x/y'),
  ...attempt('a relative path', true, () => 'run/virtlockd-relative'),
  exchange(
    '/a and /a/ are two',
    'A lockspace is known by the bytes of its path: with and without a final slash are two.',
    (dir) => [
      register(),
      ...both(`${dir}/ls`),
      ...both(`${dir}/ls/`),
      call('a', lock.acquire(`${dir}/ls`, 'r', autocreate | shared)),
      call('a', lock.acquire(`${dir}/ls/`, 'r', shared)),
      call('a', lock.release(`${dir}/ls//`, 'r')),
      look,
      call('a', lock.release(`${dir}/ls/`, 'r')),
      call('a', lock.release(`${dir}/ls`, 'r')),
    ],
  ),
  exchange('a lockspace of another connection', 'A lockspace is available to every connection.', (dir) => [
    register(),
    call('a', lock.newLockspace(`${dir}/ls`)),
    register('b'),
    call('b', lock.createResource(`${dir}/ls`, 'r')),
    call('b', lock.newLockspace(`${dir}/ls`)),
  ]),
  exchange('a lockspace outlives its connection', 'A lockspace stays when the connection that made it ends.', (dir) => [
    register(),
    call('a', lock.newLockspace(`${dir}/ls`)),
    { do: 'close', on: 'a' },
    register('b'),
    call('b', lock.newLockspace(`${dir}/ls`)),
  ]),
  exchange(
    'a directory removed later is not made again',
    'The removed directory of a known lockspace is not made again.',
    (dir) => [
      register(),
      call('a', lock.newLockspace(`${dir}/ls`)),
      files('rm ls'),
      ...both(`${dir}/ls`),
      call('a', lock.createResource(`${dir}/ls`, 'r')),
      call('a', lock.acquire(`${dir}/ls`, 'r')),
      call('a', lock.acquire(`${dir}/ls`, 'r', autocreate)),
      call('a', lock.deleteResource(`${dir}/ls`, 'r')),
    ],
  ),
  exchange(
    'resources of lockspaces that are not known',
    'Every procedure refuses resources of an unknown lockspace.',
    (dir) =>
      [`${dir}/ls`, 'ls', '/', bytes('/', Buffer.of(0xff, 0xfe))].flatMap((path) => [
        register(),
        call('a', lock.createResource(path, 'r')),
        call('a', lock.deleteResource(path, 'r')),
        call('a', lock.acquire(path, 'r')),
        call('a', lock.release(path, 'r')),
      ]),
  ),
  exchange(
    'names with slashes and dots',
    "A resource's name may have slashes and dots, and leads wherever the path leads.",
    (dir) => [
      files('file beside'),
      register(),
      call('a', lock.newLockspace(`${dir}/ls`)),
      ...['', '.', '..', '../beside', './r', 'sub/r', '/r', '//r', `${dir}/beside`].flatMap((name) => [
        call('a', lock.createResource(`${dir}/ls`, name)),
        call('a', lock.acquire(`${dir}/ls`, name)),
        look,
        call('a', lock.release(`${dir}/ls`, name)),
        call('a', lock.deleteResource(`${dir}/ls`, name)),
      ]),
    ],
  ),
  exchange('names with odd bytes', "A resource's name may have any bytes; a NUL ends the name of its file.", (dir) => [
    register(),
    call('a', lock.newLockspace(`${dir}/ls`)),
    ...[Buffer.of(0xff, 0xfe), Buffer.from('a\0b'), Buffer.from('line\nbreak'), ' ', '%s%n', 'ü', "a'b"].flatMap(
      (name) => [
        call('a', lock.createResource(`${dir}/ls`, name)),
        call('a', lock.acquire(`${dir}/ls`, name)),
        call('a', lock.acquire(`${dir}/ls`, name)),
        look,
        call('a', lock.release(`${dir}/ls`, name)),
        call('a', lock.release(`${dir}/ls`, name)),
        call('a', lock.deleteResource(`${dir}/ls`, name)),
      ],
    ),
  ]),
  exchange('the same name in two lockspaces', 'One name in two lockspaces is two resources.', (dir) => [
    register(),
    call('a', lock.newLockspace(`${dir}/one`)),
    call('a', lock.newLockspace(`${dir}/two`)),
    call('a', lock.acquire(`${dir}/one`, 'r', autocreate)),
    call('a', lock.acquire(`${dir}/two`, 'r', autocreate)),
    look,
    call('a', lock.release(`${dir}/one`, 'r')),
    look,
    call('a', lock.release(`${dir}/two`, 'r')),
  ]),
];
