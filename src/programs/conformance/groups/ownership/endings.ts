/** The ends of owners' connections. The actors p and q are real processes. */
import { autocreate, encode, lock, shared } from '../../../../lab/wire.ts';
import {
  type Exchange,
  type Step,
  call,
  close,
  ended,
  exchange,
  files,
  halfClose,
  ignoreTerm,
  kill,
  look,
  send,
} from '../../exchange/script.ts';

const stranger = 5_000_701;
/** Registers a connection for an actor's pid, by default the actor's own. */
const registerAs = (on: string, actor = on.slice(0, 1), serial = 1): Step =>
  send(on, (pid) => encode({ ...lock.register({ pid: pid(actor), uuid: Buffer.alloc(16) }), serial }));
const acquire = (on: string, path: string, flags = 0): Step => call(on, lock.acquire('', path, flags));
const release = (on: string, path: string): Step => call(on, lock.release('', path));
const file = files('file r');

export const endings: readonly Exchange[] = [
  exchange(
    'an owner with a lease closes its connection',
    'When an owner with a lease closes its connection, the daemon sends it SIGTERM and frees the lease.',
    (dir) => [file, registerAs('p.a'), acquire('p.a', `${dir}/r`), look, close('p.a'), ended('p')],
  ),
  exchange('an owner that ignores SIGTERM', 'An owner with a lease that survives SIGTERM is killed.', (dir) => [
    file,
    ignoreTerm('p'),
    registerAs('p.a'),
    acquire('p.a', `${dir}/r`),
    close('p.a'),
    ended('p'),
  ]),
  exchange('an owner with a lease half-closes', "A half-close is an owner's end as a close is.", (dir) => [
    file,
    registerAs('p.a'),
    acquire('p.a', `${dir}/r`),
    halfClose('p.a'),
    ended('p'),
  ]),
  exchange(
    'an owner with a lease sends a bad length',
    "A connection closed for a bad length is its owner's end.",
    (dir) => [file, registerAs('p.a'), acquire('p.a', `${dir}/r`), send('p.a', Buffer.alloc(4)), ended('p')],
  ),
  exchange(
    'an owner is killed',
    'All leases of an owner that was killed are freed, and AUTOCREATE files unlinked.',
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      acquire('p.a', `${dir}/auto`, autocreate),
      acquire('p.a', `${dir}/shared`, autocreate | shared),
      call('p.a', lock.createLockspace(`${dir}/ls`)),
      call('p.a', lock.acquire(`${dir}/ls`, 'one', autocreate)),
      look,
      kill('p', 'SIGKILL'),
      look,
    ],
  ),
  exchange(
    'an owner without a lease is left alone',
    'An owner that holds nothing may close its connection and live.',
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      release('p.a', `${dir}/r`),
      close('p.a'),
      registerAs('p.b'),
    ],
  ),
  exchange(
    'a process that never registered is left alone',
    'A process that never registered may close its connection and live.',
    () => [call('p.a', lock.createLockspace('')), close('p.a'), registerAs('p.b')],
  ),
  exchange(
    'another acquires for the owner, whose end then kills it',
    "A lease that another process acquired for an owner counts at that owner's end.",
    (dir) => [
      file,
      registerAs('p.a'),
      registerAs('b', 'p'),
      acquire('b', `${dir}/r`),
      close('b'),
      look,
      close('p.a'),
      ended('p'),
      look,
    ],
  ),
  exchange(
    'another releases for the owner, whose end then kills nobody',
    "A lease that another process released for an owner does not count at that owner's end.",
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      registerAs('b', 'p'),
      release('b', `${dir}/r`),
      close('p.a'),
      registerAs('p.b'),
    ],
  ),
  exchange(
    'one connection for the owner ends, which is not its own',
    "The end of another process's connection for an owner frees nothing and kills no process.",
    (dir) => [
      file,
      registerAs('p.a', 'q'),
      acquire('p.a', `${dir}/r`),
      close('p.a'),
      look,
      registerAs('q.b'),
      release('q.b', `${dir}/r`),
    ],
  ),
  exchange(
    'one of two connections of the owner ends',
    "The end of one of an owner's own connections is the owner's end.",
    (dir) => [file, registerAs('p.a'), registerAs('p.b'), acquire('p.a', `${dir}/r`), close('p.b'), ended('p')],
  ),
  exchange(
    'registered as itself, then as another: its end frees nothing',
    "At a connection's end only the pid that it registered last counts.",
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      call('p.a', lock.register({ pid: stranger })),
      close('p.a'),
      look,
      registerAs('p.b'),
      release('p.b', `${dir}/r`),
    ],
  ),
  exchange(
    'registered as another, then as itself: only its own go',
    "At a connection's end only the leases of the owner that it registered last are freed.",
    (dir) => [
      files('file r', 'file own'),
      call('p.a', lock.register({ pid: stranger })),
      acquire('p.a', `${dir}/r`),
      registerAs('p.a'),
      acquire('p.a', `${dir}/own`),
      close('p.a'),
      ended('p'),
      look,
      call('b', lock.register({ pid: stranger })),
      release('b', `${dir}/r`),
    ],
  ),
  exchange(
    'of a shared resource only the owner that ended goes',
    "An owner's end frees its own hold on a shared resource; the others keep theirs.",
    (dir) => [
      call('b', lock.register({ pid: stranger })),
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`, shared | autocreate),
      acquire('b', `${dir}/r`, shared),
      acquire('p.a', `${dir}/other`, shared | autocreate),
      kill('p', 'SIGKILL'),
      look,
      acquire('b', `${dir}/r`, 0),
      release('b', `${dir}/r`),
    ],
  ),
  exchange(
    'of two owners one ends and is killed, the other stays',
    'Another owner of a shared resource is not killed with the one that ended.',
    (dir) => [
      file,
      registerAs('p.a'),
      registerAs('q.a'),
      acquire('p.a', `${dir}/r`, shared),
      acquire('q.a', `${dir}/r`, shared),
      close('p.a'),
      ended('p'),
      look,
      release('q.a', `${dir}/r`),
    ],
  ),
  exchange('a restricted owner ends', "The end of a restricted connection is its owner's end too.", (dir) => [
    file,
    registerAs('p.a'),
    acquire('p.a', `${dir}/r`),
    call('p.a', lock.restrict()),
    close('p.a'),
    ended('p'),
  ]),
  exchange(
    'an owner ends in the middle of a message',
    "An end in the middle of a message is its owner's end, and the message is not served.",
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      // Without the directory's path, whose length is not always the same.
      send('p.a', encode(lock.release('', '/somewhere')).subarray(0, 40)),
      close('p.a'),
      ended('p'),
    ],
  ),
  exchange(
    'the last request of an owner is its release',
    'A release right before the end is served, and the owner lives.',
    (dir) => [
      file,
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`),
      send('p.a', encode(lock.release('', `${dir}/r`)), { queued: true }),
      close('p.a'),
      registerAs('p.b'),
    ],
  ),
  exchange(
    'AUTOCREATE files of an owner that ended are unlinked',
    'AUTOCREATE files of an owner that ended are unlinked.',
    (dir) => [
      registerAs('p.a'),
      acquire('p.a', `${dir}/r`, autocreate),
      acquire('p.a', `${dir}/s`, autocreate | shared),
      look,
      close('p.a'),
      ended('p'),
    ],
  ),
];
