/** Keepalive messages on both sockets. */
import { encode, lock, u32 } from '../../../../lab/wire.ts';
import { type Exchange, admin, call, exchange, keepalive, send } from '../../exchange/script.ts';

const sockets = ['a', 'admin'] as const;
/** The reaction of a socket to a form. */
type Answer = 'answers' | 'ignores' | 'refuses';
const forms: readonly (readonly [string, Answer, Parameters<typeof call>[1], Parameters<typeof call>[2]?])[] = [
  ['a ping', 'answers', keepalive(1)],
  ['a ping with a serial', 'answers', keepalive(1), { serial: 0xffff_ffff }],
  ['a ping with a payload', 'answers', keepalive(1, Buffer.from('whatever'))],
  ['a ping with three odd bytes', 'answers', keepalive(1, Buffer.of(1, 2, 3))],
  ['a ping with an error status', 'answers', keepalive(1), { status: 1 }],
  ['a ping with status -1', 'answers', keepalive(1), { status: 0xffff_ffff }],
  ['a pong', 'ignores', keepalive(2)],
  ['a keepalive event 0', 'ignores', keepalive(0)],
  ['a keepalive event 3', 'ignores', keepalive(3)],
  ['a keepalive event -1', 'ignores', keepalive(0xffff_ffff)],
  ['a ping of version 2', 'ignores', keepalive(1), { version: 2 }],
  ['a ping as a call', 'refuses', keepalive(1), { type: 0 }],
  ['a ping as a reply', 'ignores', keepalive(1), { type: 1 }],
  ['a ping as a stream', 'ignores', keepalive(1), { type: 3 }],
  ['a ping as a call with descriptors', 'refuses', keepalive(1, u32(0)), { type: 4 }],
  ['a ping as type 7', 'ignores', keepalive(1), { type: 7 }],
];

export const keepaliveExchanges: readonly Exchange[] = [
  ...sockets.flatMap((socket) =>
    forms.map(([name, answer, request, change]) =>
      exchange(
        `${name} on the ${socket === 'a' ? 'lock' : 'admin'} socket`,
        `The ${socket === 'a' ? 'lock' : 'admin'} socket ${answer} ${name}, and serves on.`,
        () => [
          call(socket, request, change),
          socket === 'a' ? call('a', lock.register({ pid: 5_000_201 })) : call('admin', admin(3)),
        ],
      ),
    ),
  ),
  exchange('pings between calls', 'Pings between calls are answered in their place among the replies.', () => [
    send(
      'a',
      Buffer.concat([
        encode(keepalive(1)),
        encode(lock.register({ pid: 5_000_201 })),
        encode(keepalive(1)),
        encode(keepalive(1)),
        encode(lock.restrict()),
      ]),
    ),
  ]),
];
