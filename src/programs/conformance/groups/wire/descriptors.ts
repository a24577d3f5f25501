/** CALL_WITH_FDS, and descriptors without one. */
import { type Call, encode, lock, u32 } from '../../../../lab/wire.ts';
import {
  type Exchange,
  type Step,
  call,
  close,
  descriptors,
  exchange,
  gone,
  halfClose,
  send,
} from '../../exchange/script.ts';

const register = lock.register({ pid: 5_000_101 });
const alive = (on: string): Step => call(on, register, { serial: 99 });

/** A call with a count of descriptors in front of its arguments. */
const withCount = (count: number, request: Call = register, change: Partial<Call> = {}): Uint8Array =>
  encode({ ...request, type: 4, ...change, payload: Buffer.concat([u32(count), change.payload ?? request.payload]) });
const data = Buffer.of(0);
const many = (count: number): Step[] =>
  Array.from({ length: count }, () => send('p.a', data, { descriptors: 1, queued: true }));

export const descriptorExchanges: readonly Exchange[] = [
  exchange(
    'a call with no descriptors announced',
    'A call with descriptors may announce none, and is answered as a plain call.',
    () => [send('a', withCount(0)), alive('a')],
  ),
  exchange(
    'a call with descriptors, without a count',
    'A call with descriptors that has no count closes the connection.',
    () => [send('a', encode({ ...register, type: 4, payload: Buffer.alloc(0) })), gone('a')],
  ),
  exchange(
    'a call with descriptors, half a count',
    'A call with descriptors that has half a count closes the connection.',
    () => [send('a', encode({ ...register, type: 4, payload: Buffer.alloc(2) })), gone('a')],
  ),
  ...[33, 34, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((count) =>
    exchange(
      `${count} descriptors announced`,
      `${count} announced descriptors are more than the 32 allowed, and close the connection.`,
      () => [send('a', withCount(count)), gone('a')],
    ),
  ),
  ...[1, 32].map((count) =>
    exchange(
      `${count} descriptors announced, none sent`,
      `A call that announces ${count} descriptors is not answered before they come.`,
      () => [send('a', withCount(count))],
    ),
  ),
  exchange(
    'one descriptor',
    'A call is answered when its one descriptor has come, and the daemon closes that descriptor.',
    () => [
      alive('p.a'),
      descriptors,
      send('p.a', withCount(1)),
      send('p.a', data, { descriptors: 1 }),
      alive('p.a'),
      descriptors,
    ],
  ),
  exchange('32 descriptors', '32 descriptors, the most, are taken with a call and closed behind it.', () => [
    alive('p.a'),
    descriptors,
    send('p.a', withCount(32)),
    ...many(31),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
    descriptors,
  ]),
  exchange(
    'two of three descriptors, then the third',
    'A call with three descriptors is answered only when the third has come.',
    () => [
      alive('p.a'),
      descriptors,
      send('p.a', withCount(3)),
      send('p.a', data, { descriptors: 1 }),
      send('p.a', data, { descriptors: 1 }),
      send('p.a', data, { descriptors: 1 }),
      descriptors,
    ],
  ),
  exchange(
    'two of three descriptors, then the end',
    'Descriptors that came with a call that never became whole are closed with the connection.',
    () => [
      alive('p.a'),
      alive('p.b'),
      descriptors,
      send('p.a', withCount(3)),
      send('p.a', data, { descriptors: 1 }),
      send('p.a', data, { descriptors: 1 }),
      close('p.a'),
      alive('p.b'),
      descriptors,
    ],
  ),
  exchange(
    'two of three descriptors, then half-closed',
    'A half-close while descriptors are missing closes the connection without an answer.',
    () => [
      send('p.a', withCount(3)),
      send('p.a', data, { descriptors: 1 }),
      send('p.a', data, { descriptors: 1 }),
      halfClose('p.a'),
    ],
  ),
  exchange(
    'a data byte without its descriptor',
    'A data byte that brings no descriptor where one was announced closes the connection.',
    () => [send('a', withCount(1)), send('a', data), gone('a')],
  ),
  exchange(
    'the second data byte without its descriptor',
    'The second data byte must bring its descriptor as the first one did, else the connection is closed.',
    () => [send('p.a', withCount(2)), send('p.a', data, { descriptors: 1 }), send('p.a', data), gone('p.a')],
  ),
  exchange(
    'another call in place of the descriptor',
    'Another call where a descriptor was announced closes the connection.',
    () => [send('a', withCount(1)), alive('a'), gone('a')],
  ),
  exchange(
    'the descriptor comes with the message itself',
    'A descriptor that comes with the bytes of the message itself does not count as an announced one.',
    () => [alive('p.a'), send('p.a', withCount(1), { descriptors: 1 })],
  ),
  exchange(
    'a call behind the descriptors',
    "A call right behind the last descriptor's byte is served as the next one.",
    () => [
      send('p.a', withCount(1)),
      send('p.a', Buffer.concat([data, encode({ ...register, serial: 2 })]), { descriptors: 1 }),
      alive('p.a'),
    ],
  ),
  exchange('any value of the data byte', 'The byte that brings a descriptor may have any value.', () => [
    send('p.a', withCount(1)),
    send('p.a', Buffer.of(0xff), { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange(
    'unannounced descriptors are dropped',
    'Unannounced descriptors are closed, and the calls they came with are answered.',
    () => [
      alive('p.a'),
      descriptors,
      send('p.a', encode(register), { descriptors: 1 }),
      send('p.a', encode(register), { descriptors: 5 }),
      alive('p.a'),
      descriptors,
    ],
  ),
  exchange(
    'descriptors and an unknown program, none announced',
    'An unknown program is reported for a call with descriptors that announces none.',
    () => [send('a', withCount(0, register, { program: 0x1234 })), alive('a')],
  ),
  exchange(
    'descriptors and an unknown program are awaited first',
    'An unknown program is reported once the descriptors have come; their bytes follow the error.',
    () => [
      send('p.a', withCount(1, register, { program: 0x1234 })),
      send('p.a', data, { descriptors: 1 }),
      alive('p.a'),
    ],
  ),
  exchange(
    'descriptors and an unknown procedure',
    'An unknown procedure is reported once the descriptors have come; their bytes follow the error.',
    () => [send('p.a', withCount(1, register, { procedure: 77 })), send('p.a', data, { descriptors: 1 }), alive('p.a')],
  ),
  exchange(
    'descriptors and a bad status',
    'A bad status is reported once the descriptors have come; their bytes follow the error.',
    () => [send('p.a', withCount(1, register, { status: 1 })), send('p.a', data, { descriptors: 1 }), alive('p.a')],
  ),
  exchange(
    'descriptors and an error of the procedure',
    'An error of the procedure itself is answered without the bytes of the descriptors.',
    () => [
      alive('p.a'),
      send('p.a', withCount(2, lock.release('', 'nothing'))),
      send('p.a', data, { descriptors: 1, queued: true }),
      send('p.a', data, { descriptors: 1 }),
      alive('p.a'),
    ],
  ),
  exchange(
    'descriptors and arguments that cannot be decoded',
    'Arguments that cannot be decoded are reported once the descriptors have come, which are then closed.',
    () => [
      alive('p.a'),
      descriptors,
      send('p.a', withCount(1, register, { payload: Buffer.alloc(3) })),
      send('p.a', data, { descriptors: 1 }),
      alive('p.a'),
      descriptors,
    ],
  ),
  exchange(
    'a call with descriptors on the admin socket',
    'The admin socket takes calls with descriptors too, and answers them.',
    () => [
      send('p.admin', withCount(1, { program: 0x0690_0690, procedure: 3, payload: Buffer.alloc(0) })),
      send('p.admin', data, { descriptors: 1 }),
      send('p.admin', encode({ program: 0x0690_0690, procedure: 3, serial: 2 })),
    ],
  ),
  exchange(
    'a reply with descriptors is dropped and its descriptors are not awaited',
    'A reply with descriptors is ignored, and its descriptors are not waited for.',
    () => [send('a', encode({ ...register, type: 5, payload: Buffer.concat([u32(1), register.payload]) })), alive('a')],
  ),
];
