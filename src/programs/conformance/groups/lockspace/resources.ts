/** CREATE, DELETE, ACQUIRE and RELEASE with files of every kind. */
import { autocreate, lock, shared } from '../../../../lab/wire.ts';
import {
  type Exchange,
  type Step,
  call,
  exchange,
  files,
  foreignLock,
  foreignUnlock,
  look,
} from '../../exchange/script.ts';

const pid = 5_000_501;
const other = 5_000_502;
const register = (on = 'a', owner = pid): Step => call(on, lock.register({ pid: owner }));
const acquire = (path: string, flags = 0, on = 'a'): Step => call(on, lock.acquire('', path, flags));
const release = (path: string, on = 'a'): Step => call(on, lock.release('', path));
const create = (path: string): Step => call('a', lock.createResource('', path));
const remove = (path: string): Step => call('a', lock.deleteResource('', path));
const file = files('file r');

/** Targets of a path: the orders that make them, and the path, by default `r`. */
const targets: readonly (readonly [string, readonly string[], ((dir: string) => string)?])[] = [
  ['nothing', []],
  ['a file', ['file r 640 content']],
  ['a file of mode 0', ['file r 0']],
  ['a directory', ['dir r']],
  ['a symbolic link to a file', ['file f', 'link r f']],
  ['a symbolic link to nothing', ['link r nothing']],
  ['a symbolic link to a directory', ['dir d', 'link r d']],
  ['a loop of symbolic links', ['link r r']],
  ['a hard link', ['file f', 'hard r f']],
  ['a file below a file', ['file f'], (dir) => `${dir}/f/r`],
  ['a file below a missing directory', [], (dir) => `${dir}/missing/r`],
  ['a file with a slash behind it', ['file f'], (dir) => `${dir}/f/`],
  ['a component of 255 bytes', [], (dir) => `${dir}/${'c'.repeat(255)}`],
  ['a component of 256 bytes', [], (dir) => `${dir}/${'c'.repeat(256)}`],
  ['a path one byte too long', [], () => `/${'b/'.repeat(2047)}r`],
  ['a path just short enough', [], () => `/${'b/'.repeat(2046)}r`],
  ['a path of 65536 bytes', [], () => `/${'c'.repeat(65_535)}`],
  ['no name', [], () => ''],
  ['a relative path', [], () => 'virtlockd-no-such-file/r'],
  ['a file that cannot be made, in /proc', [], () => '/proc/virtlockd-x'],
  ['a file that cannot be made, in /sys', [], () => '/sys/virtlockd-x'],
  ['the root directory', [], () => '/'],
];

const flagSets = [
  ['', 0],
  [' SHARED', shared],
  [' AUTOCREATE', autocreate],
  [' SHARED AUTOCREATE', shared | autocreate],
] as const;

/** The outcome of ACQUIRE_RESOURCE for a target. */
function outcome(title: string, flags: number): string {
  const locked = (flags & shared) === 0 ? 'locks its byte 0 for writing' : 'locks its byte 0 for reading';
  if (['nothing', 'a symbolic link to nothing', 'a component of 255 bytes'].includes(title)) {
    return (flags & autocreate) === 0
      ? 'is refused, for there is no file'
      : `makes the file and ${locked}, until the release`;
  }
  const kinds = ['a file', 'a file of mode 0', 'a symbolic link to a file', 'a hard link'];
  return kinds.includes(title) ? `${locked}, until the release` : "is refused with the system's error";
}

export const resources: readonly Exchange[] = [
  ...targets.flatMap(([title, make, where = (dir: string): string => `${dir}/r`]) => [
    ...flagSets.map(([flagTitle, flags]) =>
      exchange(
        `ACQUIRE${flagTitle}, RELEASE: ${title}`,
        `ACQUIRE_RESOURCE with ${flagTitle === '' ? 'no flags' : flagTitle.trim()} of ${title} ${outcome(title, flags)}.`,
        (dir) => [files(...make), register(), acquire(where(dir), flags), look, release(where(dir))],
      ),
    ),
    exchange(
      `CREATE_RESOURCE, DELETE_RESOURCE: ${title}`,
      `CREATE_RESOURCE makes an empty file where there is none and keeps one that is there, and DELETE_RESOURCE unlinks it: ${title}.`,
      (dir) => [files(...make), register(), create(where(dir)), look, remove(where(dir))],
    ),
    exchange(
      `DELETE_RESOURCE: ${title}`,
      `DELETE_RESOURCE unlinks the name itself, and succeeds when there is none: ${title}.`,
      (dir) => [files(...make), register(), remove(where(dir))],
    ),
  ]),
  // CREATE_RESOURCE opens a fifo for writing and hangs the C daemon for good.
  ...flagSets.map(([title, flags]) =>
    exchange(
      `ACQUIRE${title}, RELEASE: a fifo`,
      `ACQUIRE_RESOURCE with ${title === '' ? 'no flags' : title.trim()} of a fifo locks it without waiting for a writer.`,
      (dir) => [files('fifo r'), register(), acquire(`${dir}/r`, flags), look, release(`${dir}/r`)],
    ),
  ),
  exchange('DELETE_RESOURCE: a fifo', 'DELETE_RESOURCE unlinks a fifo.', (dir) => [
    files('fifo r'),
    register(),
    remove(`${dir}/r`),
  ]),
  exchange('ACQUIRE, RELEASE: a device', 'ACQUIRE_RESOURCE locks a device file.', (dir) => [
    files('device r'),
    register(),
    acquire(`${dir}/r`),
    look,
    release(`${dir}/r`),
  ]),
  exchange(
    'CREATE_RESOURCE keeps a file as it is',
    'CREATE_RESOURCE leaves content and mode of a file that is there.',
    (dir) => [files('file r 604 content'), register(), create(`${dir}/r`), create(`${dir}/r`)],
  ),
  exchange(
    'CREATE_RESOURCE and DELETE_RESOURCE of one that is held',
    'No owner can create or delete a resource that is held.',
    (dir) => [
      file,
      register(),
      acquire(`${dir}/r`),
      create(`${dir}/r`),
      remove(`${dir}/r`),
      register('b', other),
      call('b', lock.createResource('', `${dir}/r`)),
      call('b', lock.deleteResource('', `${dir}/r`)),
      release(`${dir}/r`),
      remove(`${dir}/r`),
      remove(`${dir}/r`),
    ],
  ),
  exchange(
    'CREATE_RESOURCE and DELETE_RESOURCE of one that is shared',
    'A shared resource can be neither created nor deleted while held.',
    (dir) => [
      file,
      register(),
      acquire(`${dir}/r`, shared),
      create(`${dir}/r`),
      remove(`${dir}/r`),
      release(`${dir}/r`),
    ],
  ),
  {
    name: 'DELETE_RESOURCE of one that another process has locked',
    promise: 'DELETE_RESOURCE leaves a file that another process, or another host, has locked.',
    defect: 'C unlinks the file under the lock of another host, which lets a third one in',
    steps: (dir) => [file, foreignLock('p', `${dir}/r`, true), register(), create(`${dir}/r`), remove(`${dir}/r`)],
  },
  exchange('RELEASE of what is not held', 'RELEASE_RESOURCE of a resource that no owner holds is an error.', (dir) => [
    file,
    register(),
    release(`${dir}/r`),
    release(`${dir}/missing`),
    release(''),
    release('relative'),
  ]),
  exchange(
    'RELEASE by another owner',
    'Only an owner of the lease may release it; after the last one it is not held.',
    (dir) => [
      file,
      register(),
      acquire(`${dir}/r`),
      register('b', other),
      release(`${dir}/r`, 'b'),
      look,
      release(`${dir}/r`),
      release(`${dir}/r`, 'b'),
    ],
  ),
  exchange(
    'RELEASE by another connection of the owner',
    'Any connection of the owner may release its lease.',
    (dir) => [file, register(), acquire(`${dir}/r`), register('b'), release(`${dir}/r`, 'b')],
  ),
  exchange(
    'locks of another process',
    'A resource that another process has locked is busy, with every flag, until that lock goes.',
    (dir) => [
      file,
      register(),
      foreignLock('p', `${dir}/r`, true),
      ...flagSets.map(([, flags]) => acquire(`${dir}/r`, flags)),
      foreignUnlock('p', `${dir}/r`),
      acquire(`${dir}/r`),
      release(`${dir}/r`),
    ],
  ),
  exchange(
    'a read lock of another process',
    'A resource that another process has read-locked can be shared and nothing else.',
    (dir) => [
      file,
      register(),
      foreignLock('p', `${dir}/r`, false),
      acquire(`${dir}/r`),
      acquire(`${dir}/r`, shared),
      look,
      release(`${dir}/r`),
    ],
  ),
  ...[
    [0, 1],
    [0, 0],
    [1, 0],
    [1, 1],
    [100, 102],
  ].map(([start = 0, length = 0]) =>
    exchange(
      `another process has locked ${length === 0 ? 'all' : length} from byte ${start}`,
      `Another process's lock from byte ${start} ${start === 0 ? 'is in the way' : 'is not in the way'}: byte 0 alone is locked.`,
      (dir) => [
        file,
        register(),
        foreignLock('p', `${dir}/r`, true, start, length),
        acquire(`${dir}/r`),
        look,
        release(`${dir}/r`),
      ],
    ),
  ),
  exchange('a failed AUTOCREATE leaves the file it made', 'A file stays when AUTOCREATE could not lock it.', (dir) => [
    register(),
    file,
    foreignLock('p', `${dir}/r`, true),
    acquire(`${dir}/r`, autocreate),
    look,
    foreignUnlock('p', `${dir}/r`),
    acquire(`${dir}/r`, autocreate),
    release(`${dir}/r`),
  ]),
  exchange(
    'SHARED AUTOCREATE stays while another process reads',
    'A shared AUTOCREATE file is not unlinked while another process holds a read lock.',
    (dir) => [
      register(),
      acquire(`${dir}/r`, shared | autocreate),
      foreignLock('p', `${dir}/r`, false),
      release(`${dir}/r`),
      foreignUnlock('p', `${dir}/r`),
      acquire(`${dir}/r`, shared | autocreate),
      release(`${dir}/r`),
    ],
  ),
  exchange(
    'AUTOCREATE, and the file is removed while held',
    'The lock of a removed AUTOCREATE file stays held until its release.',
    (dir) => [
      register(),
      acquire(`${dir}/r`, autocreate),
      files('rm r'),
      look,
      acquire(`${dir}/r`, autocreate),
      release(`${dir}/r`),
    ],
  ),
  {
    name: 'AUTOCREATE, and the file is replaced while held',
    promise: 'Releasing AUTOCREATE unlinks the locked file, and no other that has taken its name.',
    defect: 'C unlinks whatever has the name by then, also what another host has locked',
    steps: (dir) => [
      register(),
      acquire(`${dir}/r`, autocreate),
      files('file new 640 new', 'mv new r'),
      look,
      release(`${dir}/r`),
    ],
  },
  {
    name: 'SHARED AUTOCREATE, and the file is replaced while held',
    promise: 'Releasing shared AUTOCREATE unlinks the locked file, and no other that has taken its name.',
    defect: 'C unlinks whatever has the name by then, also what another host has locked',
    steps: (dir) => [
      register(),
      acquire(`${dir}/r`, autocreate | shared),
      files('file new 640 new', 'mv new r'),
      release(`${dir}/r`),
    ],
  },
  exchange(
    'AUTOCREATE, and a directory stands in its place at release',
    'A directory in the place of an AUTOCREATE file stays, and the lease is released.',
    (dir) => [register(), acquire(`${dir}/r`, autocreate), files('rm r', 'dir r'), release(`${dir}/r`)],
  ),
  exchange('without AUTOCREATE nothing is unlinked', 'Without AUTOCREATE a release unlinks nothing.', (dir) => [
    file,
    register(),
    acquire(`${dir}/r`),
    files('mv r moved'),
    file,
    look,
    release(`${dir}/r`),
  ]),
];
