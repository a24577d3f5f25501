/** SET_TIMEOUT and SHUTDOWN. */
import { lock, u32 } from '../../../../lab/wire.ts';
import { type Exchange, admin, call, fresh } from '../../exchange/script.ts';

const timeout = (seconds: number, flags = 0) => call('admin', admin(19, u32(seconds), u32(flags)));

export const daemonExchanges: readonly Exchange[] = [
  fresh(
    'SET_TIMEOUT',
    'SET_TIMEOUT sets the idle timeout as often as asked, where this version of libvirt knows it.',
    () => [timeout(0), timeout(600), timeout(30), timeout(0), timeout(0)],
  ),
  fresh(
    'SET_TIMEOUT, great values',
    'SET_TIMEOUT takes or refuses great values as this version of libvirt does, and the daemon lives.',
    () => [
      ...[2_147_483, 2_147_484, 4_294_967, 4_294_968, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff].map((seconds) =>
        timeout(seconds),
      ),
      timeout(0),
      call('admin', admin(3)),
    ],
  ),
  fresh('SET_TIMEOUT with flags', 'SET_TIMEOUT refuses flags.', () => [
    timeout(0, 1),
    timeout(30, 0xffff_ffff),
    timeout(0),
  ]),
  fresh(
    'SET_TIMEOUT, cut off and with more',
    'SET_TIMEOUT cut off is a decoding error; bytes behind its arguments are ignored.',
    () => [
      call('admin', admin(19)),
      call('admin', admin(19, u32(30))),
      call('admin', admin(19, u32(0), Buffer.alloc(3))),
      call('admin', admin(19, u32(0), u32(0), u32(1))),
    ],
  ),
  fresh(
    'SHUTDOWN with flags it does not know',
    'SHUTDOWN with flags it does not know is refused, and nothing ends.',
    () => [2, 3, 4, 0xffff_fffe, 0xffff_ffff].map((flags) => call('admin', admin(20, u32(flags)))),
  ),
  fresh('SHUTDOWN, cut off', 'SHUTDOWN cut off is a decoding error, and nothing ends.', () => [
    call('admin', admin(20)),
    call('admin', admin(20, Buffer.alloc(3))),
  ]),
  fresh('SHUTDOWN', 'SHUTDOWN ends the daemon without an answer, where this version of libvirt knows it.', () => [
    call('admin', admin(20, u32(0))),
  ]),
  fresh('SHUTDOWN, preserving', 'SHUTDOWN with the flag 1 is taken where this version of libvirt knows it.', () => [
    call('admin', admin(20, u32(1))),
  ]),
  fresh(
    'SHUTDOWN with a lease held',
    'SHUTDOWN does not wait for leases, where this version of libvirt knows it.',
    (dir) => [
      call('a', lock.register({ pid: 5_000_821 })),
      call('a', lock.acquire('', `${dir}/r`, 2)),
      call('admin', admin(20, u32(0))),
    ],
  ),
];
