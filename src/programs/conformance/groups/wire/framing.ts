/** Lengths, headers, types, and the order in which the daemon checks them. */
import { encode, lock, text, u32 } from '../../../../lab/wire.ts';
import {
  type Exchange,
  admin,
  call,
  exchange,
  gone,
  halfClose,
  keepalive,
  open,
  send,
  together,
} from '../../exchange/script.ts';

const pid = 5_000_001;
const register = lock.register({ pid });
const alive = (on: string): ReturnType<typeof call> => call(on, register, { serial: 99 });
const body = encode(register);

/** One call with a changed header, and another one behind it. */
const header = (name: string, promise: string, change: Parameters<typeof call>[2]): Exchange =>
  exchange(name, promise, () => [call('a', register, change), alive('a')]);

const lengths = [
  0, 1, 2, 3, 4, 5, 8, 23, 24, 27, 28, 29, 33_554_436, 33_554_437, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

export const framing: readonly Exchange[] = [
  ...lengths.map((length) =>
    exchange(
      `length ${length}, and nothing else`,
      `A length word of ${length} ${length > 4 && length <= 33_554_436 ? 'is that of a message still to come, which is waited for' : 'closes the connection at once'}.`,
      () => [send('a', u32(length)), ...(length > 4 && length <= 33_554_436 ? [] : [gone('a')])],
    ),
  ),
  ...[4, 8, 20, 24, 27].map((length) =>
    exchange(
      `length ${length} with as many bytes`,
      `A message of ${length} bytes is too short for a header: the connection is closed when that many have come.`,
      () => [send('a', Buffer.concat([u32(length), body.subarray(4, length)])), gone('a')],
    ),
  ),
  exchange('two bytes of a length', 'A length word that is not whole is waited for.', () => [
    send('a', Buffer.of(0, 0)),
  ]),
  exchange(
    'two bytes of a length, half-closed',
    'A half-close in the middle of a length word closes the connection without an answer.',
    () => [send('a', Buffer.of(0, 0)), halfClose('a')],
  ),
  exchange(
    'a whole message too short for a header, half-closed',
    'A message too short for a header closes the connection, and a half-close behind it changes nothing.',
    () => [send('a', Buffer.concat([u32(20), body.subarray(4, 20)])), gone('a'), halfClose('a')],
  ),
  exchange(
    'a header without arguments',
    'A call whose arguments cannot be decoded is answered by an error, and the connection serves on.',
    () => [call('a', { ...register, payload: Buffer.alloc(0) }), alive('a')],
  ),
  exchange('a message in single bytes', 'A message may come byte by byte.', () => [
    send('a', body, { apart: true }),
    alive('a'),
  ]),
  exchange(
    'a message of the greatest length',
    'A message of 33554436 bytes, the greatest, is served; bytes behind its arguments are ignored.',
    () => [
      send(
        'a',
        encode({ ...register, payload: Buffer.concat([register.payload, Buffer.alloc(33_554_436 - body.length)]) }),
        {
          awaited: 1,
        },
      ),
      alive('a'),
    ],
  ),
  exchange('half a message, then the rest', 'A message may come in two parts at any time.', () => [
    send('a', body.subarray(0, 30)),
    send('a', body.subarray(30)),
    alive('a'),
  ]),
  exchange(
    'half a message, then half-closed',
    'A half-close in the middle of a message closes the connection without an answer.',
    () => [send('a', body.subarray(0, 30)), halfClose('a')],
  ),
  exchange(
    'one and a half messages, then half-closed',
    'A whole message in front of a half one is answered before the half-close closes the connection.',
    () => [send('a', Buffer.concat([body, body.subarray(0, 40)])), halfClose('a')],
  ),
  exchange('half-closed at once', 'A half-close at once closes the connection.', () => [open('a'), halfClose('a')]),
  exchange('half-closed after a complete request', 'A half-close after the reply closes the connection.', () => [
    call('a', register),
    halfClose('a'),
  ]),
  exchange(
    'a request and the half-close behind it',
    'A request is answered although the half-close came right behind it.',
    () => [send('a', encode(register), { queued: true }), halfClose('a')],
  ),
  exchange(
    'three requests in one write',
    'Requests in one write are answered in their order, each seeing what those before it did.',
    () => [together('a', register, lock.restrict(), lock.createLockspace('/nowhere')), alive('a')],
  ),
  exchange(
    'three requests in one write, half-closed',
    'All requests in front of a half-close are answered in their order before the connection is closed.',
    () => [
      send(
        'a',
        Buffer.concat([encode(register), encode({ ...register, serial: 2 }), encode({ ...register, serial: 3 })]),
        {
          queued: true,
        },
      ),
      halfClose('a'),
    ],
  ),
  exchange('thirty requests in one write', 'Thirty requests in one write are answered in their order.', () => [
    send('a', Buffer.concat(Array.from({ length: 30 }, (_, serial) => encode({ ...lock.restrict(), serial }))), {
      awaited: 30,
    }),
    alive('a'),
  ]),
  exchange(
    'good, dropped and bad requests in one write',
    'Of requests in one write, unanswerable ones are ignored and a bad one is answered, all in their order.',
    () => [
      send(
        'a',
        Buffer.concat([
          body,
          encode({ ...register, type: 2, serial: 2 }),
          encode({ ...register, procedure: 77, serial: 3 }),
          encode({ ...keepalive(1), serial: 4 }),
          encode({ ...register, serial: 5 }),
        ]),
      ),
      alive('a'),
    ],
  ),
  exchange(
    'a good request and a length of zero in one write',
    'A request in front of a length of zero is answered before the connection is closed.',
    () => [send('a', Buffer.concat([body, u32(0)])), gone('a')],
  ),
  exchange(
    'a good request and a length too great in one write',
    'A request in front of a length too great is answered before the connection is closed.',
    () => [send('a', Buffer.concat([body, u32(33_554_437), Buffer.alloc(100)])), gone('a')],
  ),
  exchange(
    'serials are echoed',
    'A reply has the serial of its call, whatever that is and however often it was used.',
    () => [
      call('a', register, { serial: 0 }),
      call('a', register, { serial: 0xffff_ffff }),
      call('a', register, { serial: 0x8000_0000 }),
      call('a', register, { serial: 0x8000_0000 }),
    ],
  ),

  header('an unknown program', 'A call of an unknown program is answered by an error that names program and version.', {
    program: 0x1234,
  }),
  header('program 0', 'A call of program 0 is answered as one of any unknown program.', { program: 0 }),
  header('program ffffffff', 'The error for an unknown program prints its number signed.', { program: 0xffff_ffff }),
  header('version 0', 'A call of version 0 of the program is answered as one of an unknown program.', { version: 0 }),
  header('version 2', 'A call of version 2 of the program is answered as one of an unknown program.', { version: 2 }),
  header('version ffffffff', 'The error for an unknown version prints it signed.', { version: 0xffff_ffff }),
  header('the admin program on the lock socket', 'The lock socket does not know the admin program.', {
    program: 0x0690_0690,
    procedure: 3,
  }),
  exchange(
    'the lock program on the admin socket',
    'The admin socket does not know the lock program, and serves on.',
    () => [call('admin', register), call('admin', admin(3))],
  ),
  header('the keepalive program as a call', 'The keepalive program cannot be called: it is unknown as one.', {
    program: 0x6b65_6570,
  }),
  ...[0, 9, 77, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((procedure) =>
    header(
      `procedure ${procedure | 0}`,
      `Procedure ${procedure | 0} of the lock program does not exist, and the error says its number.`,
      { procedure },
    ),
  ),
  ...[1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((status) =>
    header(
      `status ${status | 0}`,
      `A call whose status is ${status | 0} is answered by an error that says it unsigned.`,
      { status },
    ),
  ),
  ...[1, 2, 3, 5, 6, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((type) =>
    header(`type ${type | 0}`, `A message of type ${type | 0}, which is no call, is ignored without an answer.`, {
      type,
    }),
  ),
  header('a reply with an error', 'A reply with an error is ignored without an answer.', { type: 1, status: 1 }),

  header('an unknown program wins over a bad status', 'An unknown program is reported before a bad status.', {
    program: 0x1234,
    status: 1,
  }),
  header(
    'an unknown program wins over an unknown procedure',
    'An unknown program is reported before an unknown procedure.',
    { program: 0x1234, procedure: 77 },
  ),
  header(
    'an unknown version wins over a bad status',
    'An unknown version is reported before a bad status and an unknown procedure.',
    { version: 2, status: 1, procedure: 77 },
  ),
  header('a bad status wins over an unknown procedure', 'A bad status is reported before an unknown procedure.', {
    status: 1,
    procedure: 77,
  }),
  header(
    'a bad status wins over arguments that cannot be decoded',
    'A bad status is reported before arguments that cannot be decoded.',
    { status: 1, payload: Buffer.alloc(0) },
  ),
  header(
    'an unknown procedure wins over arguments that cannot be decoded',
    'An unknown procedure is reported before arguments that cannot be decoded.',
    {
      procedure: 77,
      payload: Buffer.alloc(0),
    },
  ),
  ...[1, 2, 3, 5, 6].map((type) =>
    header(
      `an unknown program with type ${type}`,
      `A message of type ${type} for an unknown program is ignored without an answer.`,
      { program: 0x1234, type },
    ),
  ),
  header(
    'a dropped type with an unknown procedure',
    'A stream message for an unknown procedure is ignored without an answer.',
    { type: 3, procedure: 77 },
  ),
  header('a dropped type with a bad status', 'A stream message with an error status is ignored without an answer.', {
    type: 3,
    status: 1,
  }),
  header('a dropped type with an unknown version', 'An event of an unknown version is ignored without an answer.', {
    type: 2,
    version: 2,
  }),
  exchange(
    'arguments that cannot be decoded win over everything a procedure checks',
    'Arguments that cannot be decoded are reported before registration and restriction are checked.',
    () => [
      call('a', { procedure: 3, payload: u32(4) }),
      call('a', register),
      call('a', lock.restrict()),
      call('a', { procedure: 3, payload: u32(4) }),
      call('a', { procedure: 1, payload: Buffer.alloc(15) }),
      call('a', { procedure: 8, payload: text('/x').subarray(0, 6) }),
    ],
  ),
];
