/** SET_TIMEOUT and SHUTDOWN. */
import { lock, u32 } from '../../lab/wire.ts';
import { type Exchange, admin, call, fresh } from '../../exchange/script.ts';

const timeout = (seconds: number, flags = 0) => call('admin', admin(19, u32(seconds), u32(flags)));

export const daemonExchanges: readonly Exchange[] = [
  fresh('SET_TIMEOUT', () => [timeout(0), timeout(600), timeout(30), timeout(0), timeout(0)]),
  fresh('SET_TIMEOUT, great values', () => [
    ...[2_147_483, 2_147_484, 4_294_967, 4_294_968, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((seconds) =>
      timeout(seconds),
    ),
    timeout(0),
    call('admin', admin(3)),
  ]),
  fresh('SET_TIMEOUT with flags', () => [timeout(0, 1), timeout(30, 0xffff_ffff), timeout(0)]),
  fresh('SET_TIMEOUT, cut off and with more', () => [
    call('admin', admin(19)),
    call('admin', admin(19, u32(30))),
    call('admin', admin(19, u32(0), Buffer.alloc(3))),
    call('admin', admin(19, u32(0), u32(0), u32(1))),
  ]),
  fresh('SHUTDOWN with flags it does not know', () =>
    [2, 3, 4, 0xffff_fffe, 0xffff_ffff].map((flags) => call('admin', admin(20, u32(flags)))),
  ),
  fresh('SHUTDOWN, cut off', () => [call('admin', admin(20)), call('admin', admin(20, Buffer.alloc(3)))]),
  fresh('SHUTDOWN', () => [call('admin', admin(20, u32(0)))]),
  fresh('SHUTDOWN, preserving', () => [call('admin', admin(20, u32(1)))]),
  fresh('SHUTDOWN with a lease held', (dir) => [
    call('a', lock.register({ pid: 5_000_821 })),
    call('a', lock.acquire('', `${dir}/r`, 2)),
    call('admin', admin(20, u32(0))),
  ]),
];
