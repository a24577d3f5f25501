/** Events that are sent while a call is served, before its error: replies that were sent with them are not sent again. */
import assert from 'node:assert/strict';
import os from 'node:os';
import path from 'node:path';
import { client } from '../../../src/programs/fuzz/client.ts';
import type { Daemon } from '../../../src/daemon/daemon.ts';
import { encode, lock, lockProgram } from '../../../src/lab/wire.ts';
import { posix } from '../../../src/posix/posix.ts';
import type { Server } from '../../../src/rpc/server.ts';
import { makeDaemon } from '../support/daemon.ts';
import { until } from '../support/link.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';

const { EAGAIN } = os.constants.errno;
/** Names so long that the events of a few calls are sent at once. */
const NAME = 'x'.repeat(3000);
const CALLS = 600;

/** The far end of a connection to a server. */
function connect<C>(server: Server<C>): { fd: number; context: C } {
  const pair = new Int32Array(2);
  client.pair(pair);
  const [near = -1, far = -1] = pair;
  posix.setNonblocking(near);
  const connection = server.adopt(near, server.nextClientId, { pid: process.pid, uid: 0, gid: 0 }, 0);
  connection.start();
  return { fd: far, context: connection.context };
}

function receive(fd: number): Buffer {
  const parts: Buffer[] = [];
  for (;;) {
    const part = Buffer.alloc(65536);
    const got = client.receive(fd, part, 0, 0);
    if (got === -EAGAIN || got <= 0) return Buffer.concat(parts);
    parts.push(part.subarray(0, got));
  }
}

function serialsIn(bytes: Buffer): number[] {
  const serials: number[] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32BE(at)) serials.push(bytes.readUInt32BE(at + 20));
  return serials;
}

describe('refused acquires that a client watches', () => {
  let daemon: Daemon;
  let directory: ReturnType<typeof temporaryDirectory>;
  let log: LogRecorder;
  const descriptors: number[] = [];

  beforeEach(() => {
    directory = temporaryDirectory();
    log = new LogRecorder(path.join(directory.path, 'log'));
    daemon = makeDaemon();
    daemon.inquiry.watch(daemon.lockspaces, []);
  });
  afterEach(async () => {
    for (const fd of descriptors.splice(0)) client.close(fd);
    await until('all are gone', () => daemon.lockServer.clientCount + daemon.adminServer.clientCount === 0);
    log.stop();
    directory.remove();
  });

  it('are answered once each', async () => {
    const watcher = connect(daemon.adminServer);
    const { fd } = connect(daemon.lockServer);
    descriptors.push(watcher.fd, fd);
    daemon.inquiry.subscriptions.add(watcher.context);
    const calls = [
      lock.register({ pid: 4_200_000 }),
      ...Array.from({ length: CALLS }, () => lock.acquire('/none', NAME)),
    ];
    const messages = calls.map((call, index) =>
      encode({ program: lockProgram, version: 1, serial: index + 1, ...call }),
    );
    const bytes = Buffer.concat(messages);
    let sent = 0;
    let got = Buffer.alloc(0);
    await until('the last is answered', () => {
      if (sent < bytes.length) sent += Math.max(0, client.send(fd, bytes.subarray(sent), [], 0));
      receive(watcher.fd);
      got = Buffer.concat([got, receive(fd)]);
      return serialsIn(got).includes(calls.length);
    });
    assert.deepEqual(
      serialsIn(got),
      calls.map((_call, index) => index + 1),
    );
  });
});
