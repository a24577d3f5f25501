/** Who may connect at all. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckContext } from '../../check-context.ts';
import { slug, type WrittenCheck } from '../../check.ts';
import type { Place } from '../../../../lab/place.ts';
import { adminProgram, encode, keepaliveProgram, lock } from '../../../../lab/wire.ts';

/** Sends the bytes in hexadecimal to the socket and prints what is answered until the end. In Perl, which every Debian has. */
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

/** What another user, whom the socket's mode does not keep out, gets for an answer: `closed`, `answered` or `nothing`. */
export async function otherUserHears(place: Place, path: string, call: Uint8Array): Promise<string> {
  const hex = Buffer.from(call).toString('hex');
  const { stdout, stderr } = await place.run('/usr/bin/perl', ['-e', ask, path, hex], { ordinary: true });
  assert.equal(stderr, '');
  return stdout;
}

async function othersAnswer(context: CheckContext, socket: string, call: Uint8Array): Promise<string> {
  const { place } = context;
  await context.start();
  const path = join(place.sockets, socket);
  chmodSync(place.outside(path), 0o777);
  return otherUserHears(place, path, call);
}

function peerCheck(title: string, promise: string, run: (context: CheckContext) => Promise<void>): WrittenCheck {
  const rootOnly = 'takes a second user';
  return { name: `wire/${slug(title)}`, group: 'wire', promise, rootOnly, run };
}

export const peerChecks: readonly WrittenCheck[] = [
  peerCheck(
    'another user is not served',
    "Whoever is not the daemon's own user is disconnected, whatever the mode of the socket says.",
    async (context) => {
      assert.equal(await othersAnswer(context, 'virtlockd-sock', encode(lock.register({ pid: 5_000_000 }))), 'closed');
    },
  ),
  peerCheck('another user is not served as administrator', 'Nor on the admin socket.', async (context) => {
    const version = encode({ program: adminProgram, procedure: 3 });
    assert.equal(await othersAnswer(context, 'virtlockd-admin-sock', version), 'closed');
  }),
  peerCheck('another user gets no pong', 'Not even its pings are answered.', async (context) => {
    const ping = encode({ program: keepaliveProgram, procedure: 1, type: 2, serial: 0 });
    assert.equal(await othersAnswer(context, 'virtlockd-sock', ping), 'closed');
  }),
];
