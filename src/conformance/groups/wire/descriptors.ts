/** CALL_WITH_FDS, and descriptors that nobody announced. */
import { type Call, encode, lock, u32 } from '../../lab/wire.ts';
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
  exchange('a call with no descriptors announced', () => [send('a', withCount(0)), alive('a')]),
  exchange('a call with descriptors, without a count', () => [
    send('a', encode({ ...register, type: 4, payload: Buffer.alloc(0) })),
    gone('a'),
  ]),
  exchange('a call with descriptors, half a count', () => [
    send('a', encode({ ...register, type: 4, payload: Buffer.alloc(2) })),
    gone('a'),
  ]),
  ...[33, 34, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((count) =>
    exchange(`${count} descriptors announced`, () => [send('a', withCount(count)), gone('a')]),
  ),
  ...[1, 32].map((count) => exchange(`${count} descriptors announced, none sent`, () => [send('a', withCount(count))])),
  exchange('one descriptor', () => [
    alive('p.a'),
    descriptors,
    send('p.a', withCount(1)),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
    descriptors,
  ]),
  exchange('32 descriptors', () => [
    alive('p.a'),
    descriptors,
    send('p.a', withCount(32)),
    ...many(31),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
    descriptors,
  ]),
  exchange('two of three descriptors, then the third', () => [
    alive('p.a'),
    descriptors,
    send('p.a', withCount(3)),
    send('p.a', data, { descriptors: 1 }),
    send('p.a', data, { descriptors: 1 }),
    send('p.a', data, { descriptors: 1 }),
    descriptors,
  ]),
  exchange('two of three descriptors, then the end', () => [
    alive('p.a'),
    alive('p.b'),
    descriptors,
    send('p.a', withCount(3)),
    send('p.a', data, { descriptors: 1 }),
    send('p.a', data, { descriptors: 1 }),
    close('p.a'),
    alive('p.b'),
    descriptors,
  ]),
  exchange('two of three descriptors, then half-closed', () => [
    send('p.a', withCount(3)),
    send('p.a', data, { descriptors: 1 }),
    send('p.a', data, { descriptors: 1 }),
    halfClose('p.a'),
  ]),
  exchange('a data byte without its descriptor', () => [send('a', withCount(1)), send('a', data), gone('a')]),
  exchange('the second data byte without its descriptor', () => [
    send('p.a', withCount(2)),
    send('p.a', data, { descriptors: 1 }),
    send('p.a', data),
    gone('p.a'),
  ]),
  exchange('another call in place of the descriptor', () => [send('a', withCount(1)), alive('a'), gone('a')]),
  exchange('the descriptor comes with the message itself', () => [
    alive('p.a'),
    send('p.a', withCount(1), { descriptors: 1 }),
  ]),
  exchange('a call behind the descriptors', () => [
    send('p.a', withCount(1)),
    send('p.a', Buffer.concat([data, encode({ ...register, serial: 2 })]), { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('any value of the data byte', () => [
    send('p.a', withCount(1)),
    send('p.a', Buffer.of(0xff), { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('unannounced descriptors are dropped', () => [
    alive('p.a'),
    descriptors,
    send('p.a', encode(register), { descriptors: 1 }),
    send('p.a', encode(register), { descriptors: 5 }),
    alive('p.a'),
    descriptors,
  ]),
  exchange('descriptors and an unknown program, none announced', () => [
    send('a', withCount(0, register, { program: 0x1234 })),
    alive('a'),
  ]),
  exchange('descriptors and an unknown program are awaited first', () => [
    send('p.a', withCount(1, register, { program: 0x1234 })),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('descriptors and an unknown procedure', () => [
    send('p.a', withCount(1, register, { procedure: 77 })),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('descriptors and a bad status', () => [
    send('p.a', withCount(1, register, { status: 1 })),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('descriptors and an error of the procedure', () => [
    alive('p.a'),
    send('p.a', withCount(2, lock.release('', 'nothing'))),
    send('p.a', data, { descriptors: 1, queued: true }),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
  ]),
  exchange('descriptors and arguments that cannot be decoded', () => [
    alive('p.a'),
    descriptors,
    send('p.a', withCount(1, register, { payload: Buffer.alloc(3) })),
    send('p.a', data, { descriptors: 1 }),
    alive('p.a'),
    descriptors,
  ]),
  exchange('a call with descriptors on the admin socket', () => [
    send('p.admin', withCount(1, { program: 0x0690_0690, procedure: 3, payload: Buffer.alloc(0) })),
    send('p.admin', data, { descriptors: 1 }),
    send('p.admin', encode({ program: 0x0690_0690, procedure: 3, serial: 2 })),
  ]),
  exchange('a reply with descriptors is dropped and its descriptors are not awaited', () => [
    send('a', encode({ ...register, type: 5, payload: Buffer.concat([u32(1), register.payload]) })),
    alive('a'),
  ]),
];
