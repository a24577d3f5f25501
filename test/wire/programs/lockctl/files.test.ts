/** Messages of virt-lockctl about files with awkward names and in awkward places, some of them held by the daemon. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LockDaemon, programOf, startDaemon } from '../../../../src/lab/start.ts';
import { eventually, type Finished } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { autocreate, type Bytes, lock, shared } from '../../../../src/lab/wire.ts';

const program = join(checkout, 'bin/virt-lockctl');
/** A name that misleads on a terminal. */
const daemonProgram = '/usr/sbin/virt\\lockd';
/** Above the highest pid, so that the daemon kills no process when the connection ends. */
const owner = 5_000_000;

type Peer = Awaited<ReturnType<LockDaemon['connect']>>;

describe('virt-lockctl about files', function () {
  this.timeout(30_000);
  let lab: Lab;
  let daemon: LockDaemon;
  let peer: Peer;
  let directory: string;
  const at = (name: string): string => join(directory, name);
  /** The path as bytes, of a name that is given as bytes. */
  const bytesAt = (name: string): Buffer => Buffer.from(`${directory}/${name}`, 'latin1');

  const lockctl = async (...args: readonly string[]): Promise<Finished> => daemon.lab.run(program, args);
  const must = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await lockctl(...args);
    assert.deepEqual([code, stderr], [0, ''], `virt-lockctl ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  /** Runs a line in a shell, which passes on any bytes. The line can use `virt-lockctl` and `$D`, the directory. */
  const shell = async (line: string): Promise<Finished> =>
    daemon.lab.run('bash', ['-c', `D=$1; cd "$D"; virt-lockctl() { ${program} "$@"; }; ${line}`, 'bash', directory]);
  /** Whether the daemon grants a lock on it now. Releases the lock again. */
  const isGranted = async (lockspace: string, name: string, flags = 0): Promise<boolean> => {
    if ((await peer.ask(lock.acquire(lockspace, name, flags))) !== undefined) return false;
    await peer.must(lock.release(lockspace, name));
    return true;
  };
  const hold = async (name: string, flags = 0): Promise<void> => {
    writeFileSync(bytesAt(name), '');
    await peer.must(lock.acquire('', bytesAt(name), flags));
  };
  /** Runs `work` while a process of the name `o\d\xff`, a client of the daemon, has a lock on the file. */
  const whileLocked = async (file: Bytes, work: (pid: number) => Promise<void>): Promise<void> => {
    const code = String.raw`import fcntl, socket, sys
open('/proc/self/comm', 'wb').write(b'o\\d\xff')
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[2])
file = open(bytes.fromhex(sys.argv[1]), 'w')
fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
print('locked', flush=True)
sys.stdin.read()`;
    const socket = daemon.lab.outside('/run/libvirt/virtlockd-sock');
    const child = spawn('python3', ['-c', code, Buffer.from(file).toString('hex'), socket], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    try {
      await once(child.stdout, 'data');
      await work(child.pid ?? 0);
    } finally {
      child.stdin.end();
      await ended;
    }
  };

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
    lab.install(programOf('ours'), daemonProgram);
    daemon = await startDaemon('ours', { lab, program: daemonProgram });
    directory = join(daemon.lab.directory, 'files');
    mkdirSync(directory);
    peer = await daemon.connect();
    await peer.must(lock.register({ pid: owner, name: 'web' }));
    await hold('z\xff');
  });

  after(async () => {
    (peer as Peer | undefined)?.close();
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  describe('whose names are no valid UTF-8', () => {
    it('finds them by their bytes: who', async () => {
      for (const line of [
        String.raw`virt-lockctl who "$D/$(printf 'z\xff')"`,
        String.raw`virt-lockctl who "$(printf 'z\xff')"`,
        String.raw`virt-lockctl who -- "$(printf 'z\xff')"`,
        String.raw`ln -s "$(printf 'z\xff')" link; virt-lockctl who link`,
        String.raw`mkdir "$(printf 'd\xff')"; cd "$(printf 'd\xff')"; ln "$(printf '../z\xff')" hard; virt-lockctl who hard`,
      ]) {
        const { code, stdout, stderr } = await shell(line);
        assert.deepEqual([code, stderr], [0, ''], line);
        assert.match(stdout, /^web \(pid 5000000, dead\) holds an exclusive lock\n/);
      }
    });

    it('finds them by their bytes: why', async () => {
      const { code, stdout } = await shell(String.raw`virt-lockctl why "$(printf 'z\xff')"`);
      assert.deepEqual([code, stdout], [1, 'It would be refused: web (pid 5000000, dead) holds an exclusive lock.\n']);
      const free = await shell(String.raw`touch "$(printf 'free\xff')"; virt-lockctl why "$(printf 'free\xff')"`);
      assert.match(free.stdout, /^It would be granted: no lock on .*\/free\\xff is in the way/);
    });

    it('finds them by their bytes: list', async () => {
      for (const line of [
        String.raw`virt-lockctl list --path "$D/$(printf 'z\xff')"`,
        String.raw`virt-lockctl list --path="$D/$(printf 'z\xff')"`,
        String.raw`virt-lockctl list --lockspace '' --resource "$D/$(printf 'z\xff')"`,
      ]) {
        assert.match((await shell(line)).stdout, /^web +5000000 +exclusive .*\/z\\xff$/m, line);
      }
    });

    it('makes and lists leases of such names', async () => {
      const made = await shell(String.raw`virt-lockctl lease create "$D/$(printf 'l\xff')" "$(printf 'k\xfe')"`);
      assert.match(made.stdout, /^Lease k\\xfe is ready/);
      const list = String.raw`virt-lockctl lease list "$D/$(printf 'l\xff')"`;
      assert.equal((await shell(list)).stdout, 'KEY    HELD BY\nk\\xfe  -\n');
      await whileLocked(bytesAt('l\xff/k\xfe'), async (pid) => {
        assert.match((await shell(list)).stdout, new RegExp(String.raw`^k\\xfe +pid ${pid}$`, 'm'));
      });
      await peer.must(lock.acquire(bytesAt('l\xff'), Buffer.from('k\xfe', 'latin1')));
      assert.match((await shell(list)).stdout, /^k\\xfe +web \(pid 5000000\)$/m);
      const named = String.raw`virt-lockctl list --lockspace "$D/$(printf 'l\xff')"`;
      assert.match((await shell(named)).stdout, /\/l\\xff +k\\xfe$/m);
    });
  });

  it("who says that a file is the daemon's own", async () => {
    const file = '/run/virtlockd.pid';
    const { pid } = daemon;
    assert.equal(await must('who', file), `The daemon itself: pid ${pid} (virtlockd) holds a POSIX write lock.\n`);
    const { held, daemonItself, otherProcesses } = JSON.parse(await must('who', '--json', file)) as Record<
      string,
      unknown
    >;
    assert.deepEqual([held, daemonItself, otherProcesses], [true, true, []]);
  });

  describe('why, which agrees with the daemon,', () => {
    /** The daemon must agree with the tool. */
    const why = async (args: readonly string[], file: string, flags = 0, lockspace = ''): Promise<string> => {
      const { code, stdout } = await lockctl('why', ...args);
      assert.equal(code, (await isGranted(lockspace, file, flags)) ? 0 : 1, stdout);
      return stdout;
    };
    const heldByWeb = 'It would be refused: web (pid 5000000, dead) holds an exclusive lock.\n';

    it('knows a file by every name', async () => {
      await hold('disk');
      linkSync(at('disk'), at('hard'));
      symlinkSync('disk', at('soft'));
      assert.equal(await why([at('hard')], at('hard')), heldByWeb);
      assert.equal(await why([at('soft')], at('soft')), heldByWeb);
      assert.equal(await why([`${directory}/./disk`], `${directory}/./disk`), heldByWeb);
    });

    it('knows a lease by every name', async () => {
      await must('lease', 'create', at('space'), 'key');
      await peer.must(lock.acquire(at('space'), 'key'));
      linkSync(at('space/key'), at('space/hard'));
      for (const key of ['key', 'hard', './key']) {
        assert.equal(await why(['--lockspace', at('space'), key], key, 0, at('space')), heldByWeb);
      }
      assert.equal(await why([at('space/key')], at('space/key')), heldByWeb);
    });

    it('stats a new file in the place of a lease that is held', async () => {
      rmSync(at('space/key'));
      writeFileSync(at('space/key'), '');
      assert.match(await why([at('space/key')], at('space/key')), /^It would be granted/);
      assert.equal(await why(['--lockspace', at('space'), 'key'], 'key', 0, at('space')), heldByWeb);
    });

    it('knows who shares a file under other names', async () => {
      await hold('shared', shared);
      linkSync(at('shared'), at('shared too'));
      const granted = 'It would be granted: shared with web (pid 5000000, dead).\n';
      assert.equal(await why(['--shared', at('shared too')], at('shared too'), shared), granted);
      assert.match(
        await why([at('shared too')], at('shared too')),
        /^It would be refused: web \(pid 5000000, dead\) holds a shared lock\./,
      );
    });

    it('looks where a link leads before it says that the file would be created', async () => {
      symlinkSync('missing/target', at('nowhere'));
      symlinkSync('nowhere', at('far'));
      assert.match(
        await why(['--autocreate', at('far')], at('far'), autocreate),
        /^It would fail: cannot create a file in .*\/missing \(ENOENT\)/,
      );
      mkdirSync(at('present/below'), { recursive: true });
      symlinkSync(at('present/below'), at('jump'));
      symlinkSync('jump/../target', at('somewhere'));
      assert.match(
        await why(['--autocreate', at('somewhere')], at('somewhere'), autocreate),
        /^It would be granted: the file would be created in/,
      );
    });
  });

  it('check does not say of a new file that nobody has it locked', async () => {
    await hold('replaced');
    rmSync(at('replaced'));
    writeFileSync(at('replaced'), '');
    await whileLocked(at('replaced'), async () => {
      const { code, stdout } = await lockctl('check', '--quiet');
      assert.equal(code, 1);
      assert.match(
        stdout,
        /^error: .*\/replaced: another file is at this path now, and the lock on the old file does not guard it$/m,
      );
    });
  });

  it('takes no empty word for a path', async () => {
    for (const args of [
      ['who', ''],
      ['who', '--json', ''],
      ['why', ''],
      ['list', '--path', ''],
      ['-c', '', 'list'],
      ['-c', '', 'who', '/'],
      ['--connect=', 'status'],
    ]) {
      const { code, stdout, stderr } = await lockctl(...args);
      assert.deepEqual([code, stdout], [2, ''], args.join(' '));
      assert.match(stderr, /^virt-lockctl: (the path|--path|--connect) must not be empty\n$/);
    }
  });

  it('refusals tells a holder from another reason', async () => {
    await hold('wanted');
    for (const file of ['wanted', 'missing']) assert.equal(await isGranted('', at(file)), false);
    const text = await must('refusals');
    assert.match(text, /^TIME .* WHY$/m);
    assert.match(text, /\/wanted +held by web \(pid 5000000\)$/m);
    assert.match(text, /\/missing +Unable to open resource .*\/missing: No such file or directory$/m);
  });

  describe('list', () => {
    it('takes a path as who does: relative, and by links', async () => {
      await hold('listed');
      symlinkSync('listed', at('link to listed'));
      for (const file of ['listed', './listed', 'link to listed', '$D/listed']) {
        const { stdout } = await shell(`virt-lockctl list --path "${file}"`);
        assert.match(stdout, /^web +5000000 +exclusive .*\/listed$/m, file);
        const json = await shell(`virt-lockctl list --json --path "${file}"`);
        assert.equal((JSON.parse(json.stdout) as unknown[]).length, 1, file);
      }
    });

    it('says that no lock fits, where not all were asked for', async () => {
      for (const filter of ['--vm', '--lockspace', '--resource', '--path']) {
        assert.equal(await must('list', filter, 'nobody'), 'No lock matches.\n');
        assert.deepEqual(JSON.parse(await must('list', '--json', filter, 'nobody')), []);
      }
      assert.equal(await must('list', '--pid', '1'), 'No lock matches.\n');
    });
  });

  describe('in JSON gives every name as it is, with its bytes where it is no text:', () => {
    /** Each looks otherwise on a terminal. */
    const odd = 'back\\slash';
    const invalid = 'j\xff';
    const hex = (bytes: Bytes): string => Buffer.from(bytes).toString('hex');
    const parsed = async (...args: readonly string[]): Promise<unknown> => {
      const { stdout } = await lockctl(...args);
      return JSON.parse(Buffer.from(stdout, 'latin1').toString('utf8'));
    };

    before(async () => {
      for (const key of [odd, invalid]) {
        await peer.must(lock.createLockspace(bytesAt(key)));
        writeFileSync(bytesAt(`${key}/${key}`), '');
        await peer.must(lock.acquire(bytesAt(key), Buffer.from(key, 'latin1')));
      }
    });

    it('lockspace list', async () => {
      const rows = (await parsed('lockspace', 'list', '--json')) as Record<string, unknown>[];
      assert.ok(rows.some(({ directory: found }) => found === at(odd)));
      const { directory: text } = rows.find(({ directoryBytes }) => directoryBytes === hex(bytesAt(invalid))) ?? {};
      assert.equal(text, at('j\ufffd'));
    });

    it('lease list', async () => {
      const owners = [
        { pid: owner, name: 'web', uuid: '40404040-4040-4040-4040-404040404040', id: owner, identity: 'registered' },
      ];
      assert.deepEqual(await parsed('lease', 'list', '--json', at(odd)), [{ key: odd, holders: owners }]);
      const { stdout } = await shell(String.raw`virt-lockctl lease list --json "$(printf 'j\xff')"`);
      assert.match(stdout, /"keyBytes": "6aff"/);
      writeFileSync(bytesAt(`${odd}/stranger`), '');
      await whileLocked(at(`${odd}/stranger`), async (pid) => {
        const [, second] = (await parsed('lease', 'list', '--json', at(odd))) as unknown[];
        const stranger = { pid, name: null, uuid: null, id: null, identity: 'unknown' };
        assert.deepEqual(second, { key: 'stranger', holders: [stranger] });
      });
    });

    it('check', async () => {
      const paths = [bytesAt(`${odd}/${odd}`), bytesAt(`${invalid}/${invalid}`)];
      for (const path of paths) rmSync(path);
      const { findings } = (await parsed('check', '--json')) as { findings: Record<string, unknown>[] };
      assert.ok(findings.some(({ path, text }) => path === at(`${odd}/${odd}`) && String(text).includes('gone')));
      assert.ok(findings.some(({ pathBytes }) => pathBytes === hex(bytesAt(`${invalid}/${invalid}`))));
      for (const path of paths) writeFileSync(path, '');
    });

    it('watch', async () => {
      const watch = daemon.lab.spawn(program, ['watch', '--json', '--no-clients'], {});
      try {
        await eventually('it is subscribed', async () => (await must('clients', '--admin')).includes('watching'));
        for (const key of [odd, invalid]) await peer.must(lock.release(bytesAt(key), Buffer.from(key, 'latin1')));
        await eventually('both are told', () => watch.output.split('\n').length > 2);
        const [first, second] = watch.output.split('\n', 2).map((line) => JSON.parse(line) as Record<string, unknown>);
        assert.deepEqual([first?.name, first?.lockspace, first?.path], [odd, at(odd), at(`${odd}/${odd}`)]);
        assert.deepEqual(
          [second?.nameBytes, second?.lockspaceBytes],
          [hex(Buffer.from(invalid, 'latin1')), hex(bytesAt(invalid))],
        );
      } finally {
        await watch.stop();
      }
    });

    it('who and clients of another process', async () => {
      await whileLocked(at('outside'), async (pid) => {
        const { otherProcesses } = (await parsed('who', '--json', at('outside'))) as { otherProcesses: unknown[] };
        const named = { program: 'o\\d\ufffd', programBytes: hex(Buffer.from('o\\d\xff', 'latin1')) };
        assert.deepEqual(otherProcesses, [{ pid, kind: 'POSIX', access: 'write', ...named }]);
        const clients = (await parsed('clients', '--json')) as Record<string, unknown>[];
        const { program: text, programBytes } = clients.find((client) => client.pid === pid) ?? {};
        assert.deepEqual({ program: text, programBytes }, named);
      });
    });

    it('status', async () => {
      assert.equal(((await parsed('status', '--json')) as { program: string }).program, daemonProgram);
    });
  });
});
