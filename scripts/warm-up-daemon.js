/**
 * What a client of the daemon does around a re-execution, so that V8 has compiled in the new program what it needs before it
 * can answer. Written without the client library: the build is run by whatever Node.js runs npm.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const LOCK_PROGRAM = 0x0ea7beef;
const ADMIN_PROGRAM = 0x06900690;

function message(program, procedure, ...payload) {
  const body = Buffer.concat(payload);
  return Buffer.concat([words(28 + body.length, program, 1, procedure, 0, 1, 0), body]);
}

function words(...values) {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  return bytes;
}

function text(value) {
  return Buffer.concat([words(value.length), Buffer.from(value), Buffer.alloc(-value.length & 3)]);
}

const lock = (procedure, ...payload) => message(LOCK_PROGRAM, procedure, ...payload);
const register = lock(1, Buffer.alloc(16), text('warm'), words(1, 0, 0));
const acquire = (lockspace, name, flags) => lock(6, text(lockspace), text(name), words(flags));
const release = (lockspace, name) => lock(7, text(lockspace), text(name), words(0));
const SHARED = 1;
const AUTOCREATE = 2;

/** For all of it, in milliseconds. */
const LIMIT_MS = 60_000;

/** Differs after every exec. */
const image = (pid) => readFileSync(`/proc/${pid}/auxv`, 'latin1');

/**
 * @param sockets the directory of a running daemon's sockets, below which there is room for more
 * @throws Error when the daemon does not answer, or does not execute itself
 */
export async function warmUpDaemon(sockets, pid) {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const connect = async (file) => {
    const socket = createConnection(file);
    await once(socket, 'connect', { signal });
    return socket;
  };
  /** Sends calls one after the other, and waits for something to come back for each. */
  const ask = async (socket, ...calls) => {
    for (const call of calls) {
      socket.write(call);
      await once(socket, 'data', { signal });
    }
  };
  const at = (name) => path.join(sockets, name);
  const [caller, idle] = await Promise.all([connect(at('virtlockd-sock')), connect(at('virtlockd-sock'))]);
  const admin = await connect(at('virtlockd-admin-sock'));
  const lockspace = at('lockspace');
  await ask(idle, register);
  await ask(caller, register, lock(3, text(lockspace), words(0)));
  await ask(caller, acquire('', at('held'), AUTOCREATE), acquire(lockspace, 'shared', SHARED | AUTOCREATE));
  await ask(admin, message(ADMIN_PROGRAM, 1, words(0)));

  const before = image(pid);
  process.kill(pid, 'SIGUSR1');
  while (image(pid) === before) await pause(10, undefined, { signal });
  const disk = at('disk');
  for (let round = 0; round < 2; round++) {
    await ask(caller, register, acquire('', disk, AUTOCREATE), acquire('', disk, AUTOCREATE), release('', disk));
    await ask(admin, message(ADMIN_PROGRAM, 3));
  }
  const newcomer = await connect(at('virtlockd-sock'));
  await ask(newcomer, register, acquire(lockspace, 'shared', SHARED | AUTOCREATE), release(lockspace, 'shared'));
  for (const socket of [caller, idle, admin, newcomer]) socket.destroy();
}
