/** Lengths, headers, types and their order of precedence. */
import { encode, lock, text, u32 } from '../../lab/wire.ts';
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

/** One call with a changed header, and whether the connection is served afterwards. */
const header = (name: string, change: Parameters<typeof call>[2]): Exchange =>
  exchange(name, () => [call('a', register, change), alive('a')]);

const lengths = [
  0, 1, 2, 3, 4, 5, 8, 23, 24, 27, 28, 29, 33_554_436, 33_554_437, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

export const framing: readonly Exchange[] = [
  ...lengths.map((length) =>
    exchange(`length ${length}, and nothing else`, () => [
      send('a', u32(length)),
      ...(length > 4 && length <= 33_554_436 ? [] : [gone('a')]),
    ]),
  ),
  ...[4, 8, 20, 24, 27].map((length) =>
    exchange(`length ${length} with as many bytes`, () => [
      send('a', Buffer.concat([u32(length), body.subarray(4, length)])),
      gone('a'),
    ]),
  ),
  exchange('two bytes of a length', () => [send('a', Buffer.of(0, 0))]),
  exchange('two bytes of a length, half-closed', () => [send('a', Buffer.of(0, 0)), halfClose('a')]),
  exchange('a whole message too short for a header, half-closed', () => [
    send('a', Buffer.concat([u32(20), body.subarray(4, 20)])),
    gone('a'),
    halfClose('a'),
  ]),
  exchange('a header without arguments', () => [call('a', { ...register, payload: Buffer.alloc(0) }), alive('a')]),
  exchange('a message in single bytes', () => [send('a', body, { apart: true }), alive('a')]),
  exchange('a message of the greatest length', () => [
    send(
      'a',
      encode({ ...register, payload: Buffer.concat([register.payload, Buffer.alloc(33_554_436 - body.length)]) }),
      {
        awaited: 1,
      },
    ),
    alive('a'),
  ]),
  exchange('half a message, then the rest', () => [
    send('a', body.subarray(0, 30)),
    send('a', body.subarray(30)),
    alive('a'),
  ]),
  exchange('half a message, then half-closed', () => [send('a', body.subarray(0, 30)), halfClose('a')]),
  exchange('one and a half messages, then half-closed', () => [
    send('a', Buffer.concat([body, body.subarray(0, 40)])),
    halfClose('a'),
  ]),
  exchange('half-closed at once', () => [open('a'), halfClose('a')]),
  exchange('half-closed after a complete request', () => [call('a', register), halfClose('a')]),
  exchange('a request and the half-close behind it', () => [
    send('a', encode(register), { queued: true }),
    halfClose('a'),
  ]),
  exchange('three requests in one write', () => [
    together('a', register, lock.restrict(), lock.createLockspace('/nowhere')),
    alive('a'),
  ]),
  exchange('three requests in one write, half-closed', () => [
    send(
      'a',
      Buffer.concat([encode(register), encode({ ...register, serial: 2 }), encode({ ...register, serial: 3 })]),
      {
        queued: true,
      },
    ),
    halfClose('a'),
  ]),
  exchange('thirty requests in one write', () => [
    send('a', Buffer.concat(Array.from({ length: 30 }, (_, serial) => encode({ ...lock.restrict(), serial }))), {
      awaited: 30,
    }),
    alive('a'),
  ]),
  exchange('good, dropped and bad requests in one write', () => [
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
  ]),
  exchange('a good request and a length of zero in one write', () => [
    send('a', Buffer.concat([body, u32(0)])),
    gone('a'),
  ]),
  exchange('a good request and a length too great in one write', () => [
    send('a', Buffer.concat([body, u32(33_554_437), Buffer.alloc(100)])),
    gone('a'),
  ]),
  exchange('serials are echoed', () => [
    call('a', register, { serial: 0 }),
    call('a', register, { serial: 0xffff_ffff }),
    call('a', register, { serial: 0x8000_0000 }),
    call('a', register, { serial: 0x8000_0000 }),
  ]),

  header('an unknown program', { program: 0x1234 }),
  header('program 0', { program: 0 }),
  header('program ffffffff', { program: 0xffff_ffff }),
  header('version 0', { version: 0 }),
  header('version 2', { version: 2 }),
  header('version ffffffff', { version: 0xffff_ffff }),
  header('the admin program on the lock socket', { program: 0x0690_0690, procedure: 3 }),
  exchange('the lock program on the admin socket', () => [call('admin', register), call('admin', admin(3))]),
  header('the keepalive program as a call', { program: 0x6b65_6570 }),
  ...[0, 9, 77, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((procedure) =>
    header(`procedure ${procedure | 0}`, { procedure }),
  ),
  ...[1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((status) => header(`status ${status | 0}`, { status })),
  ...[1, 2, 3, 5, 6, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((type) => header(`type ${type | 0}`, { type })),
  header('a reply with an error', { type: 1, status: 1 }),

  header('an unknown program wins over a bad status', { program: 0x1234, status: 1 }),
  header('an unknown program wins over an unknown procedure', { program: 0x1234, procedure: 77 }),
  header('an unknown version wins over a bad status', { version: 2, status: 1, procedure: 77 }),
  header('a bad status wins over an unknown procedure', { status: 1, procedure: 77 }),
  header('a bad status wins over arguments that cannot be decoded', { status: 1, payload: Buffer.alloc(0) }),
  header('an unknown procedure wins over arguments that cannot be decoded', {
    procedure: 77,
    payload: Buffer.alloc(0),
  }),
  ...[1, 2, 3, 5, 6].map((type) => header(`an unknown program with type ${type}`, { program: 0x1234, type })),
  header('a dropped type with an unknown procedure', { type: 3, procedure: 77 }),
  header('a dropped type with a bad status', { type: 3, status: 1 }),
  header('a dropped type with an unknown version', { type: 2, version: 2 }),
  exchange('arguments that cannot be decoded win over everything a procedure checks', () => [
    call('a', { procedure: 3, payload: u32(4) }),
    call('a', register),
    call('a', lock.restrict()),
    call('a', { procedure: 3, payload: u32(4) }),
    call('a', { procedure: 1, payload: Buffer.alloc(15) }),
    call('a', { procedure: 8, payload: text('/x').subarray(0, 6) }),
  ]),
];
