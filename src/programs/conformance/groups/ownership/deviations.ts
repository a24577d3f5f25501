/** Defects of C that this project's daemon does not have. */
import { autocreate, encode, lock, shared } from '../../../../lab/wire.ts';
import { type Exchange, type Step, call, close, files, kill, look, send } from '../../exchange/script.ts';

const owners = { a: 5_000_901, b: 5_000_902 } as const;
const register = (on: 'a' | 'b'): Step => call(on, lock.register({ pid: owners[on] }));
const itself = send('p.a', (pid) => encode(lock.register({ pid: pid('p'), uuid: Buffer.alloc(16) })));
const acquire = (on: string, path: string, flags = 0): Step => call(on, lock.acquire('', path, flags));
const release = (on: string, path: string): Step => call(on, lock.release('', path));

const twoNames = 'C gives one file under two names to two owners, though a process holds a POSIX lock on it only once';
const names: readonly (readonly [string, readonly string[], (dir: string) => string])[] = [
  ['a hard link', ['file r', 'hard other r'], (dir) => `${dir}/other`],
  ['a symbolic link', ['file r', 'link other r'], (dir) => `${dir}/other`],
  ['a path with dots', ['file r'], (dir) => `${dir}/./r`],
];

export const deviations: readonly Exchange[] = [
  ...names.map(([title, orders, other]): Exchange => ({
    name: `two owners, one file, ${title}`,
    promise: `A file that one owner holds is refused to another that names it by ${title}.`,
    defect: twoNames,
    spoils: true,
    steps: (dir) => [
      files(...orders),
      register('a'),
      register('b'),
      acquire('a', `${dir}/r`),
      acquire('b', other(dir)),
      look,
      release('b', other(dir)),
      look,
      release('a', `${dir}/r`),
    ],
  })),
  {
    name: 'an owner ends that shares a resource with itself',
    promise: 'All holds of an owner go with its end, however many it has on one resource.',
    defect: 'of the entries of an owner that has ended, C frees one and leaves the others to nobody',
    spoils: true,
    steps: (dir) => [
      itself,
      acquire('p.a', `${dir}/r`, shared | autocreate),
      acquire('p.a', `${dir}/r`, shared),
      kill('p', 'SIGKILL'),
      look,
      register('a'),
      acquire('a', `${dir}/r`, autocreate),
    ],
  },
  {
    name: 'an owner ends after a lockspace could not be made',
    promise: "An owner's end frees its leases also after NEW could not make a directory.",
    defect: "once NEW could not make a directory, C frees nobody's leases any more, and may crash",
    mayCrash: true,
    spoils: true,
    steps: (dir) => [
      files('file ls'),
      itself,
      acquire('p.a', `${dir}/r`, autocreate),
      register('a'),
      call('a', lock.newLockspace(`${dir}/ls`)),
      kill('p', 'SIGKILL'),
      look,
      acquire('a', `${dir}/r`, autocreate),
      close('a'),
    ],
  },
];
