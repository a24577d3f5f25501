/** Session daemons of several users side by side: each has its own paths, and serves its own user only. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { programOf } from '../../../../src/lab/start.ts';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { openLab } from '../../../../src/lab/trees.ts';

const USERS = [47_111, 47_112] as const;

/** Registers as an owner without a process, and prints the status of the reply, or the error. */
const CLIENT = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as error:
    sys.exit(error.strerror)
body = bytes(16) + struct.pack('>I4sIII', 4, b'user', 1, 4200000, 0)
try:
    s.sendall(struct.pack('>IIIiiIi', 28 + len(body), 0x0ea7beef, 1, 1, 0, 1, 0) + body)
    reply = s.recv(28)
except OSError:
    reply = b''
sys.exit('status %d' % struct.unpack('>i', reply[24:])[0] if reply else 'closed')
`;

describe('session daemons of two users', function () {
  this.timeout(30_000);
  let lab: Lab;
  const daemons: Running[] = [];

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
  });

  after(async () => {
    for (const daemon of daemons) await daemon.stop();
    await (lab as Lab | undefined)?.close();
  });

  const as = (uid: number): string[] => [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const socketOf = (uid: number): string => `/run/user-${uid}/libvirt/virtlockd-sock`;

  const ask = async (uid: number, socket: string): Promise<string> =>
    (await lab.run('setpriv', [...as(uid), 'python3', '-c', CLIENT, socket])).stderr.trim();

  it('serve their own user each, and nobody else, and end by themselves', async () => {
    for (const uid of USERS) {
      const runtime = `/run/user-${uid}`;
      await lab.run('install', ['-d', '-m', '700', '-o', String(uid), '-g', String(uid), runtime]);
      const words = [...as(uid), programOf('ours'), '--timeout=5'];
      daemons.push(lab.spawn('setpriv', words, { env: { XDG_RUNTIME_DIR: runtime, HOME: runtime } }));
      await eventually('it listens', () => existsSync(lab.outside(socketOf(uid))));
    }
    const [one, two] = USERS;
    for (const uid of USERS) assert.equal(await ask(uid, socketOf(uid)), 'status 0');
    assert.equal(await ask(one, socketOf(two)), 'Permission denied');
    // Even root, whom no mode keeps out, is not the daemon's user.
    assert.equal(await ask(0, socketOf(one)), 'closed');
    for (const daemon of daemons) assert.equal((await daemon.exited).code, 0);
    for (const uid of USERS) assert.ok(!existsSync(lab.outside(socketOf(uid))));
  });
});
