/**
 * A hand-over that a C daemon would not survive is refused with the reason, nothing changes, and once the reason is gone the next
 * SIGUSR1 succeeds. The steps of its start are in c-start.test.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { C_PROGRAM, displace, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { ordinaryUser } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { allLocks, lockOn } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { generations } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, encode, lock, shared } from '../../../src/lab/wire.ts';
import { AtPath, NOBODY } from './at-path.ts';

const CONFIGURATION = '/etc/libvirt/virtlockd.conf';

/** Connects as a registered owner, and is not dumpable (PR_SET_DUMPABLE). */
const HIDDEN_CLIENT = `
import ctypes, socket, sys, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(bytes.fromhex('${encode(lock.register({ pid: NOBODY })).toString('hex')}'))
client.recv(100)
print('connected', flush=True)
time.sleep(60)
`;

describe('a C daemon as the successor', function () {
  this.timeout(60_000);
  let at: AtPath;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
  });
  afterEach(async () => {
    await (at as AtPath | undefined)?.close();
  });

  async function begin(...args: Parameters<typeof AtPath.open>): Promise<void> {
    at = await AtPath.open(...args);
    at.install(C_PROGRAM);
  }

  /** The hand-over succeeds now that the reason is gone. */
  async function goesOnInC(): Promise<void> {
    await at.executedAgain();
    assert.ok(!readlinkSync(`/proc/${at.daemon.pid}/exe`).endsWith('/node'));
    assert.equal(lockOn(at.daemon.pid, at.name), 'WRITE 0 0');
  }

  const run = async (script: string): Promise<void> => {
    const { code, stderr } = await at.lab.run('sh', ['-ec', script]);
    assert.equal(code, 0, stderr);
  };

  it('is not executed while its configuration has a mistake', async () => {
    await begin();
    at.lab.write(CONFIGURATION, 'max_clients = "x"\n');
    await at.refused(
      /libvirt 9\.0\.0 would end, .*: Can't load config file: .*'max_clients' parameter: .*: correct the/,
    );
    at.lab.write(CONFIGURATION, 'max_clients = 100\n');
    await goesOnInC();
  });

  it('is not executed while the configuration file that it is told to read is missing', async () => {
    await begin({ args: ['-f', '/run/named.conf'] }, (lab) => {
      lab.write('/run/named.conf', '');
    });
    await run('mv /run/named.conf /run/other.conf');
    await at.refused(/Failed to open file '\/run\/named\.conf': No such file or directory/);
    await run('mv /run/other.conf /run/named.conf');
    await goesOnInC();
  });

  it('is not executed while a log file cannot be opened, and no other is made either', async () => {
    const configuration = 'log_outputs = "3:stderr 3:file:/run/logs/log"\n';
    await begin({ configuration }, async (lab) => lab.run('mkdir', ['/run/logs']));
    await run('mv /run/logs /run/gone');
    await at.refused(/failed to open \/run\/logs\/log: No such file or directory/);
    await run('mkdir /run/logs; mkfifo /run/logs/log');
    await at.refused(/\/run\/logs\/log is a FIFO, which is waited for/);
    await run('rm /run/logs/log; : >/run/logs/other');
    at.lab.write(CONFIGURATION, 'log_outputs = "3:file:/run/logs/new 3:file:/none/log"\n');
    await at.refused(/failed to open \/none\/log/);
    assert.deepEqual(readdirSync(at.lab.outside('/run/logs')), ['other']);
    at.lab.write(CONFIGURATION, 'log_outputs = "3:stderr 3:file:/run/logs/new"\n');
    await goesOnInC();
  });

  it('is not executed with options of ours', async () => {
    await begin({ args: ['--root', '/'] });
    await at.refused(/says "unrecognized option '--root'": only a restart without them leads to it/);
  });

  it('is not executed while another file lies in the place of the pid file', async () => {
    await begin();
    await run('mv /run/virtlockd.pid /run/away; echo 1 >/run/virtlockd.pid');
    await at.refused(/the pid file \/run\/virtlockd\.pid is not the one that this daemon has locked: move it away/);
    await run('mv /run/away /run/virtlockd.pid');
    await goesOnInC();
  });

  it('is not executed while a held file is its configuration or its log', async () => {
    await begin({ configuration: '' });
    await at.holder.must(lock.acquire('', `${CONFIGURATION}.new`, autocreate));
    await run(`mv ${CONFIGURATION}.new ${CONFIGURATION}`);
    await at.refused(/is a held resource, and libvirt 9\.0\.0 has it as its configuration or log file/);
    await at.holder.must(lock.release('', `${CONFIGURATION}.new`));
    at.lab.write(CONFIGURATION, `log_outputs = "1:stderr 1:file:${at.name}"\n`);
    await at.refused(/held is a held resource/);
    assert.equal(readFileSync(at.name, 'latin1'), '');
    at.lab.write(CONFIGURATION, '');
    await goesOnInC();
  });

  it('is not executed with a timeout while an owner is not connected: it would end, and forget its locks', async () => {
    await begin({ args: ['-t', '100'] });
    await at.refused(/with --timeout libvirt 9\.0\.0 ends after 100 s without a client, .*held'.*pid 4200000/);
    await at.holder.must(lock.release('', at.name));
    await reexecute(at.daemon);
  });

  it('is not executed while a client is there whose process is gone: it would exit', async () => {
    await begin();
    const heir = await Heir.open(at.daemon.socket);
    await at.refused(
      new RegExp(`client \\d+ of server virtlockd is one whose process \\(pid ${heir.maker}\\) is gone`),
    );
    await heir.end();
    await goesOnInC();
  });

  for (const generation of generations.filter((one) => one !== '7.0.0')) {
    it(`would exit of such a client, and lose every lock: ${generation}`, async function () {
      skipIf(this, missingDaemon(generation));
      const daemon = await startDaemon(generation);
      try {
        const holder = await daemon.connect();
        await holder.must(lock.register({ pid: NOBODY }));
        await holder.must(lock.acquire('', `${daemon.lab.directory}/held`, autocreate));
        const heir = await Heir.open(daemon.socket);
        process.kill(daemon.pid, 'SIGUSR1');
        assert.equal((await daemon.exited).code, 3);
        assert.deepEqual(daemon.locks(), []);
        await heir.end();
      } finally {
        await daemon.stop();
      }
    });
  }

  it('is not executed while a client is there whose process it may not see: it would exit', async () => {
    const lab = await openLab();
    displace(lab, programOf('ours'));
    // A process that is not dumpable is then closed to all but root, also to those of its own user.
    assert.equal((await lab.run('mount', ['-t', 'proc', '-o', 'hidepid=1', 'proc', '/proc'])).code, 0);
    const daemon = await startDaemon('ours', { lab, program: PROGRAM, ordinary: true });
    const client = lab.spawn('/usr/bin/python3', ['-c', HIDDEN_CLIENT, `${ordinaryUser.sockets}/virtlockd-sock`], {
      ordinary: true,
      output: `${lab.directory}/client.log`,
    });
    try {
      await eventually('the client is connected', () => client.output.includes('connected'));
      lab.install(C_PROGRAM);
      process.kill(daemon.pid, 'SIGUSR1');
      await eventually('the refusal is logged', () => daemon.log.includes('Unable to re-execute'));
      assert.match(daemon.log, /process \(pid \d+\) is gone, or not to be seen from here/);
      assert.equal(daemon.finished, undefined);
    } finally {
      await client.stop('SIGKILL');
      await daemon.stop();
      await lab.close();
    }
  });

  describe('with a file that is held under many names', () => {
    const NAMES = 200;
    let names: string[];

    async function beginWithNames(): Promise<void> {
      await begin();
      names = Array.from({ length: NAMES }, (_, index) => `${at.lab.directory}/name-${index}`);
      const [first = ''] = names;
      writeFileSync(first, '');
      for (const name of names) {
        if (name !== first) linkSync(first, name);
        await at.holder.must(lock.acquire('', name, shared));
      }
    }

    /** How many are open of it. */
    function descriptors(): number {
      const { ino } = statSync(names[0] ?? '');
      const directory = `/proc/${at.daemon.pid}/fd`;
      const inodes = readdirSync(directory).map((fd) => statSync(`${directory}/${fd}`, { throwIfNoEntry: false })?.ino);
      return inodes.filter((inode) => inode === ino).length;
    }

    const limitTo = (most: number): void => {
      execFileSync('prlimit', ['--pid', String(at.daemon.pid), `--nofile=${most}:4096`]);
    };

    it('has a descriptor for each, or is not executed', async () => {
      await beginWithNames();
      assert.equal(descriptors(), 1);
      limitTo(150);
      await at.refused(/libvirt 9\.0\.0 needs 215 free descriptors, and of 150 \d+ are free: .*prlimit --pid \d+/);
      assert.equal(descriptors(), 1);
      limitTo(4096);
      await goesOnInC();
      assert.equal(descriptors(), NAMES);
      // It closes them one by one: none is hit that has been given away again.
      const others = await Promise.all(Array.from({ length: 5 }, async () => at.daemon.connect()));
      for (const name of names) await at.holder.must(lock.release('', name));
      assert.equal(descriptors(), 0);
      for (const [index, other] of others.entries()) {
        await other.must(lock.register({ pid: NOBODY + 2 + index }));
        other.close();
      }
    });

    it('gives them back when it is not executed after all, with every lock, and everything closed on exec again', async () => {
      await beginWithNames();
      const program = at.lab.outside(PROGRAM);
      /** One that is gone when it is to be executed: after its proof, for which it is asked once more when its version is C's. */
      const vanishing = (): void => {
        rmSync(program, { force: true });
        const text =
          'case $1 in --version) touch "$0.asked"; echo "virtlockd (libvirt) 9.0.0";; *) [ ! -e "$0.asked" ] || rm "$0" "$0.asked"; exit 1;; esac';
        writeFileSync(program, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
      };
      // Inherited from the test's caller.
      const before = outliving(at.daemon.pid);
      for (let round = 0; round < 3; round++) {
        vanishing();
        await at.refused(/cannot execute .*virtlockd: No such file or directory/);
        await eventually('all is closed on exec again', () => outliving(at.daemon.pid).join() === before.join());
        assert.equal(descriptors(), 1);
      }
      const { ino } = statSync(names[0] ?? '');
      assert.equal(allLocks().filter(({ inode }) => inode === ino).length, 1, 'of one kind');
      assert.equal(lockOn(at.daemon.pid, names[0] ?? ''), 'READ 0 0');
      at.install(C_PROGRAM);
      await goesOnInC();
    });
  });
});

/** The descriptors of a process without close-on-exec, and their files. */
function outliving(pid: number): string[] {
  const O_CLOEXEC = 0o2000000;
  return readdirSync(`/proc/${pid}/fdinfo`).flatMap((fd) => {
    try {
      const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1'))?.[1];
      return (Number.parseInt(flags ?? '', 8) & O_CLOEXEC) === 0 ? [readlinkSync(`/proc/${pid}/fd/${fd}`)] : [];
    } catch {
      return []; // closed since
    }
  });
}

/** A client whose connection another process has kept when the one that had made it ended. */
class Heir {
  private readonly process: ReturnType<typeof spawn>;
  /** The pid of the one that is gone. */
  readonly maker: number;

  private constructor(child: ReturnType<typeof spawn>, maker: number) {
    this.process = child;
    this.maker = maker;
  }

  static async open(socket: string): Promise<Heir> {
    const register = encode({ ...lock.register({ pid: NOBODY + 1, name: 'heir' }), serial: 1 }).toString('hex');
    const script = `
import os, socket, sys
maker = os.fork()
if maker == 0:
  connection = socket.socket(socket.AF_UNIX)
  connection.connect(sys.argv[1])
  connection.sendall(bytes.fromhex(sys.argv[2]))
  connection.recv(100)
  if os.fork() == 0:
    sys.stdin.read()
  os._exit(0)
os.waitpid(maker, 0)
print(maker, flush=True)
sys.stdin.read()
`;
    const child = spawn('python3', ['-c', script, socket, register], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    return new Heir(child, Number(line.toString()));
  }

  async end(): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.stdin?.end();
    await exit;
  }
}
