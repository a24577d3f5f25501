/** Arguments and environment of a start, which need not be text, and those that the daemon must ignore. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf, commandOf, toPath } from '../../../../src/posix/bytes.ts';
import { Daemon } from '../../../../src/lab/daemon.ts';
import { programOf, reexecute, startDaemon } from '../../../../src/lab/start.ts';
import { lockOn } from '../../../../src/lab/observe.ts';
import { eventually, executeAgain } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { type Lab, ordinaryUser } from '../../../../src/lab/root.ts';
import { openLab } from '../../../../src/lab/trees.ts';

/** Registers an owner without a process, calls one procedure on a resource, and prints the statuses of both replies. */
const CLIENT = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def call(procedure, body):
    s.sendall(struct.pack('>IIIiiIi', 28 + len(body), 0x0ea7beef, 1, procedure, 0, 1, 0) + body)
    return struct.unpack('>i', s.recv(4096)[24:28])[0]
def string(text):
    return struct.pack('>I', len(text)) + text + bytes(-len(text) % 4)
registered = call(1, bytes(16) + string(b'user') + struct.pack('>III', 1, 4200000, 0))
print(registered, call(int(sys.argv[2]), string(b'') + string(sys.argv[3].encode()) + struct.pack('>I', 0)))
`;
const [ACQUIRE, RELEASE] = ['6', '7'];

describe('the surroundings of a daemon', function () {
  this.timeout(30_000);
  let lab: Lab;
  const daemons: number[] = [];

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
  });

  afterEach(async () => {
    for (const pid of daemons.splice(0)) {
      process.kill(pid);
      await eventually('it has ended', () => !existsSync(`/proc/${pid}/exe`));
    }
  });

  after(async () => {
    await (lab as Lab | undefined)?.close();
  });

  describe('of a session', () => {
    const { uid, gid } = ordinaryUser;
    const user = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];

    async function ask(socket: string, procedure: string, file: string): Promise<string> {
      const words = ['/usr/bin/python3', '-c', CLIENT, socket, procedure, file];
      const { stdout, stderr } = await lab.run('setpriv', [...user, ...words]);
      return stdout.trim() + stderr;
    }

    for (const odd of [bytesOf('Jürgen'), bytesOf('日本'), bytesOf('\ufffd'), '\xff\xfe']) {
      it(`may have a home of any bytes: ${Buffer.from(odd, 'latin1').toString('hex')}`, async () => {
        const home = `/run/${odd}`;
        const runtime = `${home}/runtime`;
        const image = `/run/image-${Buffer.from(odd, 'latin1').toString('hex')}`;
        await lab.run('install', [`-o${uid}`, '/dev/null', image]);
        for (const directory of [home, runtime]) {
          const { file, args } = commandOf(['install', '-d', '-m700', `-o${uid}`, directory]);
          assert.equal((await lab.run(file, args)).code, 0);
        }
        // By a name that can be written, which leads to its sockets in the lab.
        const link = join(lab.directory, 'sockets');
        rmSync(link, { force: true });
        symlinkSync(toPath(`${runtime}/libvirt`), link);
        const socket = join(link, 'virtlockd-sock');

        const command = commandOf([programOf('ours'), '--daemon'], { HOME: home, XDG_RUNTIME_DIR: runtime });
        const { code, stderr } = await lab.run('setpriv', [...user, command.file, ...command.args], {
          env: command.env,
        });
        assert.equal(code, 0, stderr);
        const pid = Number(readFileSync(toPath(lab.outside(`${runtime}/libvirt/virtlockd.pid`)), 'latin1'));
        daemons.push(pid);
        assert.equal(await ask(socket, ACQUIRE, image), '0 0');
        await executeAgain(pid);
        assert.equal(lockOn(pid, lab.outside(image)), 'WRITE 0 0');
        assert.equal(await ask(socket, RELEASE, image), '0 0');
        assert.equal(lockOn(pid, lab.outside(image)), undefined);
      });
    }
  });

  it('have no say in what the runtime loads', async () => {
    const planted = join(lab.directory, 'planted');
    const loaded = join(lab.directory, 'loaded');
    const code = `require('node:fs').writeFileSync(${JSON.stringify(loaded)}, __filename)`;
    const home = join(lab.directory, 'home');
    for (const directory of [planted, join(home, '.node_modules')]) lab.write(join(directory, 'fs-ext/index.js'), code);
    const env = {
      HOME: home,
      NODE_PATH: planted,
      NODE_OPTIONS: `--require=${planted}/fs-ext`,
      NODE_CHANNEL_FD: '0',
      NODE_V8_COVERAGE: home,
      OPENSSL_CONF: `${home}/openssl.cnf`,
    };
    const daemon = await startDaemon('ours', { lab, env });
    daemons.push(daemon.pid);
    await reexecute(daemon);
    assert.ok(!existsSync(loaded));
    assert.doesNotMatch(readFileSync(`/proc/${daemon.pid}/environ`, 'latin1'), /(^|\0)(NODE_|OPENSSL_)/);
  });

  it('may lose their working directory, which nothing depends on', async () => {
    const directory = join(lab.directory, 'gone');
    mkdirSync(directory);
    writeFileSync(join(directory, 'settings'), 'max_clients = 77\n');
    const script = 'cd "$0" && exec "$@"';
    const words = [script, directory, programOf('ours'), '--config', 'settings', '--pid-file', 'pid'];
    const running = lab.spawn('/bin/sh', ['-c', ...words], { output: join(lab.directory, 'log') });
    daemons.push(running.pid);
    const daemon = new Daemon(running, lab);
    await daemon.accepts('virtlockd');
    rmSync(directory, { recursive: true });
    for (let i = 0; i < 2; i++) await reexecute(daemon);
    assert.match(daemon.log, /Failed to open file '.*\/gone\/settings': No such file or directory/);
    assert.doesNotMatch(daemon.log, /Unable to re-execute/);
  });
});
