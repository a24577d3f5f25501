import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { Notifier, sortActivation, takeListenDescriptors } from '../../../../src/programs/virtlockd/systemd.ts';
import type { Environment } from '../../../../src/programs/virtlockd/systemd.ts';

describe('socket activation', () => {
  const passed = (change: Environment): unknown => {
    const environment: Environment = {
      LISTEN_PID: '42',
      LISTEN_FDS: '2',
      LISTEN_FDNAMES: 'virtlockd-admin.socket:virtlockd.socket',
      KEPT: 'x',
      ...change,
    };
    const descriptors = takeListenDescriptors(environment, 42);
    assert.deepEqual(environment, { KEPT: 'x' }, 'no child is to take them for its own');
    return descriptors;
  };

  it('names the descriptors', () => {
    assert.deepEqual(passed({}), [
      { fd: 3, name: 'virtlockd-admin.socket' },
      { fd: 4, name: 'virtlockd.socket' },
    ]);
    assert.deepEqual(passed({ LISTEN_FDNAMES: 'a' }), [
      { fd: 3, name: 'a' },
      { fd: 4, name: 'unknown' },
    ]);
  });

  it('is for the process it names, and must make sense', () => {
    for (const change of [
      { LISTEN_PID: '43' },
      { LISTEN_PID: undefined },
      { LISTEN_FDS: '' },
      { LISTEN_FDS: '-1' },
      { LISTEN_FDS: '1x' },
      { LISTEN_FDS: '99999' },
      { LISTEN_FDS: undefined },
    ]) {
      assert.deepEqual(passed(change), [], JSON.stringify(change));
    }
  });

  it('goes by name, not by order', () => {
    const sorted = sortActivation([
      { fd: 3, name: 'virtlockd-admin.socket' },
      { fd: 4, name: 'other' },
      { fd: 5, name: 'virtlockd.socket' },
    ]);
    assert.deepEqual(sorted, { lock: [5], admin: [3], rest: [4] });
  });
});

describe('notification', () => {
  const notify = (socket: string | undefined, fallback?: string): [string, string][] => {
    const sent: [string, string][] = [];
    const environment: Environment = { NOTIFY_SOCKET: socket };
    const send = (path: string, data: Buffer): number => {
      sent.push([path, data.toString()]);
      return -111;
    };
    const notifier = new Notifier(environment, send, fallback);
    assert(!('NOTIFY_SOCKET' in environment));
    assert.deepEqual(notifier.environment, sent.length === 0 && isSocket(socket) ? { NOTIFY_SOCKET: socket } : {});
    notifier.ready();
    notifier.stopping();
    return sent;
  };
  const isSocket = (socket: string | undefined): boolean => socket !== undefined && /^[/@]./.test(socket);

  it('that waits is sent once the manager takes it, and of several about one thing the last', () => {
    let isFull = true;
    const sent: string[] = [];
    const send = (_: string, data: Buffer): number => {
      if (isFull) return -constants.errno.EAGAIN;
      sent.push(data.toString());
      return 0;
    };
    const notifier = new Notifier({ NOTIFY_SOCKET: '/run/notify' }, send);
    notifier.ready();
    for (const interval of [0, 30, 0]) notifier.notify(`WATCHDOG_USEC=${interval}`);
    assert.equal(notifier.flush(), false);
    isFull = false;
    assert.equal(notifier.flush(), true);
    assert.deepEqual(sent, ['READY=1\n', 'WATCHDOG_USEC=0\n']);
  });

  it('is sent to another socket where none was given, of which the successor is not told', () => {
    assert.deepEqual(notify(undefined, '/run/other')[0], ['/run/other', 'READY=1\n']);
    assert.deepEqual(notify('/run/notify', '/run/other')[0], ['/run/notify', 'READY=1\n']);
  });

  it('is sent to the socket, abstract or not', () => {
    for (const socket of ['/run/notify', '@notify']) {
      assert.deepEqual(notify(socket), [
        [socket, 'READY=1\n'],
        [socket, 'STOPPING=1\n'],
      ]);
    }
  });

  it('is not sent without one', () => {
    for (const socket of [undefined, '', 'relative', '@', 'vsock:1:2']) assert.deepEqual(notify(socket), []);
  });
});
