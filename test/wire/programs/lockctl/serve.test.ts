/** `virt-lockctl serve` as a server: requests that no browser makes, and ports at which it cannot listen. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';

const program = join(checkout, 'bin/virt-lockctl');

/**
 * In a network of its own, where port 80 is free: serves there, asks as a client that leaves the default port out of Host,
 * and prints the status of the answer and that of the server's end.
 */
const onPort80 = `
import fcntl, http.client, socket, struct, subprocess, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack('16sh14x', b'lo', 1))  # SIOCSIFFLAGS, IFF_UP
server = subprocess.Popen([sys.argv[1], 'serve', '--port', '80'], stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().strip()
asked = http.client.HTTPConnection('127.0.0.1', 80)
asked.request('GET', address.removeprefix('http://127.0.0.1:80'))
print(asked.getresponse().status)
asked.close()
server.terminate()
print(server.wait())
`;

describe('virt-lockctl serve', function () {
  this.timeout(30_000);
  let daemon: LockDaemon;
  let server: Running;
  let address: URL;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
    server = daemon.lab.spawn(program, ['serve']);
    address = new URL(await eventually('the address is printed', () => /^http:\S+/m.exec(server.output)?.[0], 20_000));
  });

  after(async () => {
    await (server as Running | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** The first line of the answer to a request that begins like this. */
  const answerTo = async (line: string): Promise<string> => {
    const socket = connect(Number(address.port), '127.0.0.1');
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.write(`${line} HTTP/1.1\r\nHost: ${address.host}\r\nConnection: close\r\n\r\n`);
    await once(socket, 'close');
    return answer.split('\r\n')[0] ?? '';
  };

  for (const [line, status] of Object.entries({
    'GET //': 400,
    'GET http://[': 400,
    'GET http://a:b/': 400,
    'OPTIONS *': 403,
    'GET /%zz': 403,
  })) {
    it(`answers ${line} with ${status}, and goes on`, async () => {
      assert.match(await answerTo(line), new RegExp(`^HTTP/1.1 ${status} `));
      assert.match(await answerTo(`GET ${address.pathname}`), /^HTTP\/1.1 200 /);
    });
  }

  it('has metrics for those who know the token', async () => {
    const ask = async (path: string, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(new URL(path, address), { headers });
    const token = address.pathname.replaceAll('/', '');
    for (const answer of [await ask('metrics'), await ask('/metrics', { Authorization: `Bearer ${token}` })]) {
      assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
      assert.match(await answer.text(), /^virtlockd_up 1$/m);
    }
    for (const wrong of ['', token, `Bearer ${token}x`, 'Bearer metrics', 'Bearer ']) {
      assert.equal((await ask('/metrics', { Authorization: wrong })).status, 403, wrong);
    }
  });

  it('takes the token from a file that others cannot read', async () => {
    const file = join(daemon.lab.directory, 'token');
    const refusal = async (token: string, fileMode: number): Promise<string> => {
      rmSync(file, { force: true });
      writeFileSync(file, token, { mode: fileMode });
      const { code, stderr } = await daemon.lab.run(program, ['serve', '--token-file', file]);
      assert.equal(code, 1);
      return stderr;
    };
    assert.match(await refusal('too-short', 0o600), /needs at least 22 letters/);
    assert.match(await refusal('with/a/slash/and/long/enough', 0o600), /needs at least 22 letters/);
    assert.match(await refusal('long-enough-but-readable', 0o644), /every user can read the token/);
    rmSync(file);
    const { stderr } = await daemon.lab.run(program, ['serve', '--token-file', file]);
    assert.match(stderr, /cannot read the token: ENOENT/);
    writeFileSync(file, 'a-token-of-at-least-22-letters\n', { mode: 0o600 });
    const other = daemon.lab.spawn(program, ['serve', '--token-file', file]);
    await eventually(
      'the address has the token',
      () => other.output.includes('/a-token-of-at-least-22-letters/'),
      20_000,
    );
    await other.stop();
  });

  it('is reached on port 80, which browsers do not name', async () => {
    const { stdout, stderr } = await daemon.lab.run('unshare', ['--net', 'python3', '-c', onPort80, program]);
    assert.deepEqual([stdout, stderr], ['200\n0\n', '']);
  });

  it('says that a port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { code, stderr } = await daemon.lab.run(program, ['serve', '--port', String(port)]);
    other.close();
    assert.equal(
      stderr,
      `virt-lockctl: cannot serve on port ${port}: listen EADDRINUSE: address already in use 127.0.0.1:${port}\n`,
    );
    assert.equal(code, 1);
  });
});
