/** Connections to a gateway, with answers in every form and out of turn. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { Connections, type HttpAnswer } from '../../../src/etcd/http.ts';

const LIMIT_MS = 5000;

describe('the connections to a gateway', function () {
  this.timeout(10_000);
  let server: Server;
  let connections: Connections;
  /** What the server does with the next requests, by their bodies. */
  let serve: (socket: Socket, body: string, head: string) => void;
  /** Connections so far. */
  const sockets: Socket[] = [];

  beforeEach(async () => {
    sockets.length = 0;
    server = createServer((socket) => {
      sockets.push(socket);
      let text = '';
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => {
        text += bytes.toString();
        for (;;) {
          const end = text.indexOf('\r\n\r\n');
          const length = Number(/content-length: (\d+)/i.exec(text.slice(0, end))?.[1]);
          if (end < 0 || text.length < end + 4 + length) return;
          const [head, body] = [text.slice(0, end), text.slice(end + 4, end + 4 + length)];
          text = text.slice(end + 4 + length);
          serve(socket, body, head);
        }
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    connections = new Connections(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {}, 2);
  });

  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  const post = async (body: string, limit = LIMIT_MS, isStream = false): Promise<HttpAnswer> =>
    connections.post({ path: '/v3/x', body, authorization: null, isStream }, limit);
  const whole = (body: string, more = ''): string =>
    `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;
  const echo = (socket: Socket, body: string): void => {
    socket.write(whole(body));
  };

  it('sends what a server needs to know, and uses a connection again', async () => {
    const heads: string[] = [];
    serve = (socket, body, head) => {
      heads.push(head);
      echo(socket, body);
    };
    assert.deepEqual(await post('{"a":1}'), { status: 200, body: '{"a":1}' });
    await connections.post({ path: '/v3/y', body: '{}', authorization: 'token', isStream: false }, LIMIT_MS);
    assert.equal(sockets.length, 1);
    assert.match(
      heads[0] ?? '',
      /^POST \/v3\/x HTTP\/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\nContent-Type: application\/json\r\n/,
    );
    assert.match(heads[1] ?? '', /\r\nAuthorization: token\r\n/);
  });

  it('reads answers of every form, byte by byte', async () => {
    const forms = {
      length: whole('some text'),
      chunks: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n5;x=y\r\n text\r\n0\r\n\r\n',
      trailer: 'HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n9\r\nsome text\r\n0\r\nGrpc-Status: 0\r\n\r\n',
      continued: `HTTP/1.1 100 Continue\r\n\r\n${whole('some text')}`,
      ended: 'HTTP/1.1 200 OK\r\n\r\nsome text',
    };
    for (const [name, text] of Object.entries(forms)) {
      serve = (socket) => {
        const bytes = text.match(/[^]/g) ?? [];
        const next = (): void => {
          const byte = bytes.shift();
          if (byte !== undefined) socket.write(byte, () => setImmediate(next));
          else if (name === 'ended') socket.end();
        };
        socket.setNoDelay(true);
        next();
      };
      assert.deepEqual(await post('{}'), { status: 200, body: 'some text' }, name);
    }
  });

  it('gives the first line of a stream at once, and uses the connection again when the stream has ended', async () => {
    let last: Socket | undefined;
    serve = (socket, body) => {
      last = socket;
      const end = body === 'ends' ? '0\r\n\r\n' : '';
      socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n${end}`);
    };
    assert.equal((await post('ends', LIMIT_MS, true)).body, 'first\n');
    assert.equal((await post('ends', LIMIT_MS, true)).body, 'first\n');
    assert.equal((await post('goes on', LIMIT_MS, true)).body, 'first\n');
    assert.equal(sockets.length, 1);
    assert.ok(last);
    // One that goes on is closed.
    if (!last.destroyed) await once(last, 'close');
  });

  it('takes no answer for that to another request', async () => {
    serve = (socket, body) => {
      if (body === 'slow') setTimeout(() => socket.write(whole('late')), 100);
      else if (body === 'twice') socket.write(`${whole('first')}${whole('second')}`);
      else echo(socket, body);
    };
    await assert.rejects(post('slow', 30), { message: 'no answer within 30 ms' });
    assert.equal((await post('next')).body, 'next');
    assert.equal((await post('twice')).body, 'first');
    assert.equal((await post('another')).body, 'another');
  });

  it('has further requests wait for a connection, and gives them up in time', async () => {
    const waiting: (() => void)[] = [];
    serve = (socket, body) => {
      waiting.push(() => {
        echo(socket, body);
      });
      if (waiting.length === 2)
        setTimeout(() => {
          for (const go of waiting) go();
        }, 100);
      else if (waiting.length > 2) echo(socket, body);
    };
    const [one, two, three] = [post('1'), post('2'), post('3')];
    await assert.rejects(post('4', 20), { message: 'no answer within 20 ms' });
    assert.deepEqual(
      (await Promise.all([one, two, three])).map(({ body }) => body),
      ['1', '2', '3'],
    );
    assert.equal(sockets.length, 2);
  });

  it('says why there is no answer', async () => {
    const cases: readonly (readonly [string, (socket: Socket) => void])[] = [
      ['the connection was closed', (socket) => socket.end()],
      ['the connection was closed', (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour')],
      [
        'the connection was closed',
        (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n'),
      ],
      ['its answer is no HTTP', (socket) => socket.write('SSH-2.0-OpenSSH\r\n\r\n')],
      [
        'its answer is no HTTP',
        (socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
      ],
      [
        'its answer is no HTTP',
        (socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n'),
      ],
      ['its answer is no HTTP', (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n')],
      ['its answer is encoded as gzip', (socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n')],
      [
        'its answer has more than 33554432 bytes',
        (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n'),
      ],
    ];
    for (const [message, answer] of cases) {
      serve = answer;
      await assert.rejects(post('{}'), { message });
    }
    serve = echo;
    assert.equal((await post('well')).body, 'well');
  });

  it('forgets connections that the server closes, and its own when it is retired', async () => {
    serve = echo;
    await post('1');
    const [first] = sockets;
    assert.ok(first);
    first.end();
    if (!first.destroyed) await once(first, 'close');
    assert.equal((await post('2')).body, '2');
    serve = (socket, body) => socket.write(whole(body, 'Connection: close\r\n'));
    await post('3');
    serve = echo;
    assert.equal((await post('4')).body, '4');
    assert.equal(sockets.length, 3);
    const last = sockets.at(-1);
    assert.ok(last);
    const closed = once(last, 'close');
    connections.retire();
    await closed;
  });
});
