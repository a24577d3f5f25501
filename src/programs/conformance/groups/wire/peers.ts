/** Which users may connect. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckContext } from '../../check-context.ts';
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import type { Place } from '../../../../lab/place.ts';
import { adminProgram, encode, keepaliveProgram, lock, type Message } from '../../../../lab/wire.ts';

/** Sends bytes, given in hexadecimal, to a socket and prints how it is answered. In Perl, which every Debian has. */
const ask = `
  use Socket;
  socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
  connect($s, sockaddr_un($ARGV[0])) or die "connect: $!";
  $SIG{PIPE} = 'IGNORE'; $SIG{ALRM} = sub { print 'nothing'; exit 0 };
  syswrite($s, pack('H*', $ARGV[1]));
  alarm 10;
  my $n = sysread($s, my $answer, 65536);
  print $n ? 'answered' : 'closed';
`;

/** How the daemon answers another user whom the socket's mode lets in: `closed`, `answered` or `nothing`. */
export async function otherUserHears(place: Place, path: string, call: Uint8Array): Promise<string> {
  const hex = Buffer.from(call).toString('hex');
  const { stdout, stderr } = await place.run('/usr/bin/perl', ['-e', ask, path, hex], { ordinary: true });
  assert.equal(stderr, '');
  return stdout;
}

function peerCheck(title: string, promise: string, socket: string, call: Partial<Message>): WrittenCheck {
  const run = async (context: CheckContext): Promise<void> => {
    await context.start();
    const { place } = context;
    const path = join(place.sockets, socket);
    chmodSync(place.outside(path), 0o777);
    assert.equal(await otherUserHears(place, path, encode(call)), 'closed');
  };
  return writtenCheck('wire', title, promise, run, { rootOnly: 'takes a second user' });
}

export const peerChecks: readonly WrittenCheck[] = [
  peerCheck(
    'another user is not served',
    "Whoever is not the daemon's own user is disconnected, whatever the mode of the socket says.",
    'virtlockd-sock',
    lock.register({ pid: 5_000_000 }),
  ),
  peerCheck('another user is not served as administrator', 'Nor on the admin socket.', 'virtlockd-admin-sock', {
    program: adminProgram,
    procedure: 3,
  }),
  peerCheck('another user gets no pong', 'Not even its pings are answered.', 'virtlockd-sock', {
    program: keepaliveProgram,
    procedure: 1,
    type: 2,
    serial: 0,
  }),
];
