/** Procedures 1 to 9 without parameters, 12, 18 and the frame of the program. */
import { type Bytes, type Call, encode, lock, text, u32, u64 } from '../../../../lab/wire.ts';
import { type Exchange, type Step, admin, call, exchange, fresh, gone, send, together } from '../../exchange/script.ts';

const lockd = text('virtlockd');
const own = text('admin');
const none = text('nobody');
const none_ = u32(0);
const flags = [1, 2, 0x8000_0000, 0xffff_ffff].map(u32);

/** A call after whose reply the connection ends. */
const closing = (request: Call): Step => send('admin', encode(request), { awaited: Infinity });

/** How a procedure treats flags. LOOKUP_SERVER ignores them. */
function onFlags(name: string): string {
  if (name.includes(' of ')) return 'reports the missing server before flags';
  return name === 'LOOKUP_SERVER' ? 'takes any flags' : 'refuses flags';
}

/** A call with each of some flags. */
const flagged = (name: string, procedure: number, ...payload: readonly Uint8Array[]): Exchange =>
  exchange(`${name} with flags`, `${name} ${onFlags(name)}.`, () =>
    flags.map((word) => call('admin', admin(procedure, ...payload, word))),
  );

/** A call cut off at several places, and with more behind it. */
const mangled = (name: string, procedure: number, ...payload: readonly Uint8Array[]): Exchange =>
  exchange(
    `${name}, cut off and with more behind`,
    `${name} cut off anywhere is a decoding error, and bytes behind its arguments are ignored.`,
    () => {
      const whole = Buffer.concat(payload);
      const cuts = [0, 3, 4, whole.length - 4, whole.length - 1].filter((at) => at >= 0 && at < whole.length);
      return [
        ...cuts.map((at) => call('admin', admin(procedure, whole.subarray(0, at)))),
        call('admin', admin(procedure, whole, Buffer.of(1, 2, 3))),
        call('admin', admin(3)),
      ];
    },
  );

const names: readonly Bytes[] = [
  '',
  'nobody',
  'Admin',
  'admin ',
  Buffer.of(0xff, 0xfe),
  Buffer.from('admin\0x'),
  '%s%n',
  'n'.repeat(3000),
];

/** A call to unknown servers, and to one with a NUL in its name. */
const unknown = (name: string, request: (server: Uint8Array) => Call): Exchange =>
  fresh(`${name} of servers that there are not`, `${name} of an unknown server is an error that names it.`, () =>
    names.map((server) => call('admin', request(text(server)))),
  );

export const servers: readonly Exchange[] = [
  exchange('requests before OPEN', 'Requests are served before OPEN, and OPEN may come twice.', () => [
    call('admin', admin(3)),
    call('admin', admin(5, own, none_)),
    call('admin', admin(1, none_)),
    call('admin', admin(1, none_)),
  ]),
  flagged('OPEN', 1),
  mangled('OPEN', 1, none_),
  exchange('CLOSE', 'CLOSE is answered, and then the connection is closed.', () => [
    call('admin', admin(1, none_)),
    closing(admin(2)),
  ]),
  exchange('CLOSE without OPEN, with a payload', 'CLOSE is served without OPEN, and its payload is ignored.', () => [
    closing(admin(2, Buffer.from('payload!'))),
  ]),
  exchange('requests behind CLOSE', 'Requests behind CLOSE are not served.', () => [
    together('admin', admin(3), admin(2), admin(3)),
    gone('admin'),
  ]),
  exchange('GET_LIB_VERSION', 'GET_LIB_VERSION reports the version of libvirt, and its payload is ignored.', () => [
    call('admin', admin(3)),
    call('admin', admin(3, Buffer.from('more'))),
  ]),
  ...[0, 19, 20, 21, 22, 100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((procedure) =>
    exchange(
      `procedure ${procedure | 0} without arguments`,
      `Procedure ${procedure | 0} without arguments is an error, and the connection serves on.`,
      () => [call('admin', admin(procedure)), call('admin', admin(3))],
    ),
  ),
  ...[1, 2, 0xffff_ffff].map((status) =>
    exchange(
      `an admin call with status ${status | 0}`,
      `A call whose status is ${status | 0} is an error, before an unknown procedure is one.`,
      () => [
        send('admin', encode({ ...admin(3), status })),
        send('admin', encode({ ...admin(77), status })),
        call('admin', admin(3)),
      ],
    ),
  ),
  ...[1, 2, 3, 6, 7].map((type) =>
    exchange(
      `an admin message of type ${type}`,
      `The admin socket ignores a message of type ${type}, which is no call.`,
      () => [send('admin', encode({ ...admin(3), type })), send('admin', encode({ ...admin(3), serial: 2 }))],
    ),
  ),
  exchange('an admin program of another version', 'Another version of the admin program is unknown.', () => [
    call('admin', { ...admin(3), version: 2 }),
    call('admin', { ...admin(3), version: 0 }),
  ]),
  exchange('a length of zero on the admin socket', 'A length of zero closes an admin connection.', () => [
    call('admin', admin(3)),
    send('admin', u32(0)),
    gone('admin'),
  ]),
  exchange(
    'a lock call between admin calls',
    'A call of the lock program between admin calls is an error and disturbs nothing.',
    () => [call('admin', admin(3)), call('admin', lock.register({ pid: 5_000_801 })), call('admin', admin(3))],
  ),
  flagged('LIST_SERVERS', 4, u32(1)),
  mangled('LIST_SERVERS', 4, u32(0), none_),
  exchange('LIST_SERVERS, only counted', 'LIST_SERVERS without a list reports the number of servers.', () => [
    call('admin', admin(4, u32(0), none_)),
  ]),
  exchange('LOOKUP_SERVER', 'LOOKUP_SERVER finds the servers virtlockd and admin.', () => [
    call('admin', admin(5, lockd, none_)),
    call('admin', admin(5, own, none_)),
  ]),
  flagged('LOOKUP_SERVER', 5, lockd),
  flagged('LOOKUP_SERVER of one that there is not', 5, none),
  mangled('LOOKUP_SERVER', 5, own, none_),
  unknown('LOOKUP_SERVER', (server) => admin(5, server, none_)),
  exchange('GET_THREADPOOL', 'GET_THREADPOOL reports the workers of each server.', () => [
    call('admin', admin(6, lockd, none_)),
    call('admin', admin(6, own, none_)),
  ]),
  flagged('GET_THREADPOOL', 6, lockd),
  flagged('GET_THREADPOOL of a server that there is not', 6, none),
  mangled('GET_THREADPOOL', 6, lockd, none_),
  unknown('GET_THREADPOOL', (server) => admin(6, server, none_)),
  fresh('GET_LIMITS', 'GET_LIMITS reports the limits of each server and the number of its clients.', () => [
    call('admin', admin(12, lockd, none_)),
    call('admin', admin(12, own, none_)),
    { do: 'open', on: 'a' },
    { do: 'open', on: 'adminb' },
    call('admin', admin(12, lockd, none_)),
    call('admin', admin(12, own, none_)),
    { do: 'close', on: 'a' },
    { do: 'close', on: 'adminb' },
    call('admin', admin(12, lockd, none_)),
    call('admin', admin(12, own, none_)),
  ]),
  flagged('GET_LIMITS', 12, lockd),
  flagged('GET_LIMITS of a server that there is not', 12, none),
  mangled('GET_LIMITS', 12, none, none_),
  unknown('GET_LIMITS', (server) => admin(12, server, none_)),
  exchange('UPDATE_TLS', 'UPDATE_TLS is refused, for there is no TLS service.', () => [
    call('admin', admin(18, lockd, none_)),
    call('admin', admin(18, own, none_)),
  ]),
  flagged('UPDATE_TLS', 18, lockd),
  flagged('UPDATE_TLS of a server that there is not', 18, none),
  mangled('UPDATE_TLS', 18, lockd, none_),
  unknown('UPDATE_TLS', (server) => admin(18, server, none_)),
  unknown('LIST_CLIENTS', (server) => admin(8, server, u32(1), none_)),
  unknown('LOOKUP_CLIENT', (server) => admin(9, server, u64(1n), none_)),
];
