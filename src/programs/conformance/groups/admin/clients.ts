/** LIST_CLIENTS, LOOKUP_CLIENT, CLIENT_INFO, CLIENT_CLOSE. Clients of a fresh daemon count from 16. */
import { encode, lock, text, u32, u64 } from '../../../../lab/wire.ts';
import { client } from '../../../../lab/admin-calls.ts';
import {
  type Exchange,
  type Step,
  admin,
  call,
  close,
  ended,
  exchange,
  files,
  fresh,
  gone,
  look,
  open,
  send,
} from '../../exchange/script.ts';

const lockd = 'virtlockd';
const list = (server: string, needed = 1, flags = 0): Step =>
  call('admin', admin(8, text(server), u32(needed), u32(flags)));
const lookup = (server: string, id: bigint, flags = 0): Step =>
  call('admin', admin(9, text(server), u64(id), u32(flags)));
const info = (server: string, id: bigint, flags = 0): Step => call('admin', admin(10, client(server, id), u32(flags)));
const end = (server: string, id: bigint, flags = 0): Step => call('admin', admin(11, client(server, id), u32(flags)));
const cut = (procedure: number, whole: Buffer): Step[] =>
  [0, 4, whole.length - 8, whole.length - 4].map((at) => call('admin', admin(procedure, whole.subarray(0, at))));
const strange = [0n, 5n, 4_000_000_000n, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_ffffn];

export const clients: readonly Exchange[] = [
  fresh(
    'LIST_CLIENTS of both servers',
    'LIST_CLIENTS lists the present clients of a server with their ids and the time they came.',
    () => [
      list(lockd),
      list('admin'),
      open('a'),
      open('b'),
      list(lockd),
      close('a'),
      list(lockd),
      open('c'),
      list(lockd),
    ],
  ),
  fresh('LIST_CLIENTS, only counted', 'LIST_CLIENTS that wants no list says the number of clients.', () => [
    list(lockd, 0),
    open('a'),
    list(lockd, 0),
    list('admin', 0),
  ]),
  fresh(
    'LIST_CLIENTS with any word that is not zero',
    'LIST_CLIENTS gives the list for any word that is not zero.',
    () => [list(lockd, 2), list(lockd, 16_384), list(lockd, 16_385), list(lockd, 0xffff_ffff)],
  ),
  exchange('LIST_CLIENTS with flags', 'LIST_CLIENTS refuses flags once the server is found.', () => [
    list(lockd, 1, 1),
    list(lockd, 0, 2),
    list('nobody', 1, 4),
  ]),
  exchange('LIST_CLIENTS, cut off', 'LIST_CLIENTS cut off anywhere is answered by a decoding error.', () =>
    cut(8, Buffer.concat([text(lockd), u32(1), u32(0)])),
  ),

  fresh('LOOKUP_CLIENT', 'LOOKUP_CLIENT finds a client by its id among those of the server.', () => [
    open('a'),
    lookup(lockd, 16n),
    lookup(lockd, 17n),
    lookup(lockd, 18n),
    lookup('admin', 16n),
    lookup('admin', 17n),
  ]),
  exchange(
    'LOOKUP_CLIENT of clients that there are not',
    'LOOKUP_CLIENT of an unknown id is an error that says it.',
    () => strange.map((id) => lookup(lockd, id)),
  ),
  fresh('LOOKUP_CLIENT with flags', 'LOOKUP_CLIENT checks the server, then the flags, then the client.', () => [
    lookup(lockd, 16n, 1),
    lookup(lockd, 99n, 1),
    lookup('nobody', 16n, 1),
    lookup(lockd, 16n, 0xffff_ffff),
  ]),
  exchange('LOOKUP_CLIENT, cut off', 'LOOKUP_CLIENT cut off anywhere is answered by a decoding error.', () =>
    cut(9, Buffer.concat([text(lockd), u64(1n), u32(0)])),
  ),
  fresh('LOOKUP_CLIENT of one that has gone', 'A client that has left is not found any more.', () => [
    open('a'),
    lookup(lockd, 17n),
    close('a'),
    lookup(lockd, 17n),
  ]),

  fresh('CLIENT_INFO', 'CLIENT_INFO says who a client is: user, group and process, and whether it only reads.', () => [
    info('admin', 16n),
    open('a'),
    call('a', lock.register({ pid: 5_000_811 })),
    info(lockd, 17n),
    call('a', lock.restrict()),
    info(lockd, 17n),
  ]),
  fresh(
    'CLIENT_INFO of another process',
    'CLIENT_INFO describes a client in another process as this version of libvirt does.',
    () => [open('p.a'), info(lockd, 17n)],
  ),
  fresh(
    'CLIENT_INFO whatever else is said of the client',
    'CLIENT_INFO uses the server and the id, and ignores the time and transport in the request.',
    () => [
      call('admin', admin(10, client('admin', 16n, 12_345n, 77), u32(0))),
      call('admin', admin(10, client('admin', 16n, -1n, 0xffff_ffff), u32(0))),
    ],
  ),
  exchange('CLIENT_INFO of clients that there are not', 'CLIENT_INFO of an unknown id is an error that says it.', () =>
    strange.map((id) => info(lockd, id)),
  ),
  exchange(
    'CLIENT_INFO of a server that there is not',
    'CLIENT_INFO of an unknown server is an error that names it.',
    () => [info('nobody', 1n), info('', 1n)],
  ),
  fresh('CLIENT_INFO with flags', 'CLIENT_INFO checks server and client before the flags.', () => [
    info('admin', 16n, 1),
    info(lockd, 99n, 1),
    info('nobody', 16n, 1),
    info('admin', 16n, 0xffff_ffff),
  ]),
  exchange('CLIENT_INFO, cut off', 'CLIENT_INFO cut off anywhere is answered by a decoding error.', () =>
    cut(10, Buffer.concat([client(lockd, 1n), u32(0)])),
  ),

  fresh('CLIENT_CLOSE', 'CLIENT_CLOSE disconnects a client, which is then not found any more.', () => [
    open('a'),
    end(lockd, 17n),
    gone('a'),
    end(lockd, 17n),
    list(lockd),
  ]),
  fresh('CLIENT_CLOSE of another admin client', 'CLIENT_CLOSE disconnects another admin client.', () => [
    list('admin'),
    open('adminb'),
    end('admin', 17n),
    gone('adminb'),
    list('admin'),
  ]),
  fresh('CLIENT_CLOSE of itself', 'A client that disconnects itself gets no answer.', () => [
    list('admin'),
    end('admin', 16n),
    gone('admin'),
  ]),
  fresh(
    'CLIENT_CLOSE of one that has not read its replies',
    'CLIENT_CLOSE disconnects a client that has called before.',
    () => [open('a'), call('a', lock.register({ pid: 5_000_812 })), end(lockd, 17n), gone('a'), list(lockd)],
  ),
  fresh(
    'CLIENT_CLOSE of one in the middle of a message',
    'CLIENT_CLOSE disconnects a client in the middle of a message.',
    () => [
      open('a'),
      send('a', encode(lock.register({ pid: 5_000_813 })).subarray(0, 30)),
      end(lockd, 17n),
      gone('a'),
      list(lockd),
    ],
  ),
  fresh(
    'CLIENT_CLOSE of one that holds for another',
    'CLIENT_CLOSE of a client that acquired for another process leaves the lease.',
    (dir) => [
      files('file r'),
      open('a'),
      call('a', lock.register({ pid: 5_000_814 })),
      call('a', lock.acquire('', `${dir}/r`)),
      end(lockd, 17n),
      gone('a'),
      look,
    ],
  ),
  fresh(
    'CLIENT_CLOSE of an owner with a lease',
    'CLIENT_CLOSE of an owner with a lease ends it: the daemon sends SIGTERM and frees the lease.',
    (dir) => [
      files('file r'),
      open('p.a'),
      send('p.a', (pid) => encode(lock.register({ pid: pid('p'), uuid: Buffer.alloc(16) }))),
      call('p.a', lock.acquire('', `${dir}/r`)),
      end(lockd, 17n),
      ended('p'),
      list(lockd),
    ],
  ),
  exchange(
    'CLIENT_CLOSE of clients that there are not',
    'CLIENT_CLOSE of an unknown id is an error that says it.',
    () => strange.map((id) => end(lockd, id)),
  ),
  exchange(
    'CLIENT_CLOSE of a server that there is not',
    'CLIENT_CLOSE of an unknown server is an error that names it.',
    () => [end('nobody', 1n), end('', 1n)],
  ),
  fresh(
    'CLIENT_CLOSE with flags',
    'CLIENT_CLOSE checks server and client before the flags, and closes no client when there are flags.',
    () => [open('a'), end(lockd, 17n, 1), end(lockd, 99n, 1), end('nobody', 17n, 1), end(lockd, 17n, 0xffff_ffff)],
  ),
  exchange('CLIENT_CLOSE, cut off', 'CLIENT_CLOSE cut off anywhere is answered by a decoding error.', () =>
    cut(11, Buffer.concat([client(lockd, 1n), u32(0)])),
  ),
  fresh('ids are not used again', 'The id of a client that has left is not given to another.', () => [
    open('a'),
    close('a'),
    open('b'),
    list(lockd),
    end(lockd, 18n),
    gone('b'),
    open('c'),
    list(lockd),
  ]),
];
