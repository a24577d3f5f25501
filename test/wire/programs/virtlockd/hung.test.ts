/** Things that do not answer, beside the storage of locks: the daemon goes on serving others. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HangingStorage, type StorageOptions, type StorageRequest } from '../../../../src/lab/hanging-storage.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { missingDaemon, missingFuse } from '../../../../src/lab/requirements.ts';
import { programOf, reexecute } from '../../../../src/lab/start.ts';
import { autocreate, lock, Peer } from '../../../../src/lab/wire.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { statOf } from '../../../../src/proc/processes.ts';
import { skipIf } from '../../../support/skip.ts';
import { AtPath } from '../../restart/at-path.ts';

const NOBODY = 4_200_000; // above every pid there can be
const CONFIGURATION = '/etc/libvirt/virtlockd.conf';
/** Each logs half a KiB at level debug. */
const CALLS = 4000;
/** The daemon served others all the time, on a machine that is busy with other tests. Whatever hangs here hangs for longer. */
const SERVED_MS = 2000;

/** Locks the second file, and waits in mmap for the storage of the first: the kernel then shows nobody its command line. */
const HUNG_IN_MMAP = `import ctypes, fcntl, os, struct, sys, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
fcntl.fcntl(os.open(sys.argv[2], os.O_RDWR), fcntl.F_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))
fd = os.open(sys.argv[1], os.O_RDWR)
page = libc.mmap(None, 4096, 3, 1, fd, 0)
ctypes.memset(page, 65, 4096)
print('locked', flush=True)
while not os.path.exists(sys.argv[3]): time.sleep(0.01)
libc.mmap(page, 4096, 3, 0x32, -1, 0)
`;

/** Says that messages were left out. */
const HAS_NOTE = /warning : \d+ messages are missing here/;

/** No line was cut, or written in the middle of another one. */
function assertWhole(log: string): void {
  for (const line of log.split('\n').slice(0, -1)) assert.match(line, /^\d{4}-.*: \d+: \w+ : /, 'lines are whole');
}

describe('the daemon while something does not answer', function () {
  this.timeout(60_000);
  let scene: AtPath;
  let storage: HangingStorage | undefined;
  let mount: string;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
    storage = undefined;
    scene = await AtPath.open();
    mount = join(scene.lab.directory, 'storage');
  });

  afterEach(async () => {
    await storage?.end();
    await (scene as AtPath | undefined)?.close();
  });

  async function mountStorage(options?: StorageOptions): Promise<void> {
    storage = await HangingStorage.mountIn(scene.lab, options);
  }

  async function hang(...requests: StorageRequest[]): Promise<void> {
    await storage?.hang(...requests);
  }

  /** Makes calls, and a connection for each, until `end` holds. Each must be answered. */
  async function servedUntil(what: string, end: () => boolean): Promise<void> {
    const { daemon, lab } = scene;
    const name = `${lab.directory}/other`;
    let longest = 0;
    const one = async (): Promise<void> => {
      const begun = performance.now();
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY + 1, name: 'other' }));
      await peer.must(lock.acquire('', name, autocreate));
      await peer.must(lock.release('', name));
      peer.close();
      longest = Math.max(longest, performance.now() - begun);
    };
    await one();
    await eventually(
      what,
      async () => {
        await one();
        return end();
      },
      20_000,
    );
    assert.ok(longest < SERVED_MS, `others waited for ${longest} ms`);
  }

  const said = (text: string) => (): boolean => scene.daemon.log.includes(text);

  it('refuses SIGUSR1 when its program does not come from its storage, and then serves on', async () => {
    await mountStorage();
    scene.install(`${mount}/disk`);
    await hang('lookup');
    process.kill(scene.daemon.pid, 'SIGUSR1');
    await servedUntil('the restart is refused', said('did nothing for 10'));
    await scene.holds();
  });

  it('takes up no configuration that does not come from its storage, and restarts without it', async () => {
    await mountStorage();
    scene.lab.install(`${mount}/disk`, CONFIGURATION);
    await hang('open');
    process.kill(scene.daemon.pid, 'SIGHUP');
    await servedUntil('the reload is refused', said('reading it took longer than 5'));
    await scene.holds();
    await reexecute(scene.daemon);
    await scene.holds();
    assert.match(scene.daemon.log, /Going on without: .*reading it took longer than 0\.5/);
  });

  /** Has it log everything into `output`, and information into a second file beside. */
  async function logInto(output: string): Promise<void> {
    const beside = '/run/beside.log';
    scene.lab.write(beside, '');
    scene.lab.write(CONFIGURATION, `log_level = 1\nlog_outputs = "1:file:${output} 2:file:${beside}"\n`);
    process.kill(scene.daemon.pid, 'SIGHUP');
    await servedUntil('the configuration is taken up', () =>
      readFileSync(scene.lab.outside(beside), 'latin1').includes('Configuration taken up'),
    );
  }

  /** Has it log twice as much as is kept for an output that takes nothing, which is 1 MiB. */
  async function logMuch(): Promise<void> {
    const peer = await scene.daemon.connect();
    await peer.must(lock.register({ pid: NOBODY + 2, name: 'n'.repeat(1000) }));
    for (let i = 0; i < CALLS; i++) await peer.must(lock.register({ pid: NOBODY + 2, name: 'n'.repeat(1000) }));
    peer.close();
  }

  it('logs into a file on storage that hangs, and into another one again', async () => {
    await mountStorage();
    await hang('open');
    await logInto(`${mount}/disk`);
    await logMuch();
    await logInto(`${scene.lab.directory}/log`);
    await scene.holds();
  });

  it('logs into a FIFO that nobody reads, and says how many messages were left out', async () => {
    const fifo = `${scene.lab.directory}/fifo`;
    execFileSync('mkfifo', [fifo]);
    await logInto(fifo);
    await logMuch();
    await scene.holds();
    const reader = spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'ignore'] });
    let read = '';
    reader.stdout.on('data', (data: Buffer) => (read += data.toString('latin1')));
    try {
      await eventually('the log goes on', () => HAS_NOTE.test(read));
    } finally {
      reader.kill();
    }
    assertWhole(read);
  });

  it('logs into a file on a full disk, and says how many messages were left out', async () => {
    const { lab } = scene;
    const full = `${lab.directory}/full`;
    const [file, other] = [`${full}/log`, `${full}/other`];
    const fill = 'mount -t tmpfs -o size=4m none "$1" && ! head -c 8M /dev/zero >"$1/other"';
    mkdirSync(full);
    assert.equal((await lab.run('sh', ['-c', fill, 'sh', full])).code, 0);
    await logInto(file);
    await logMuch();
    await scene.holds();
    rmSync(lab.outside(other));
    await eventually('the log goes on', () => HAS_NOTE.test(readFileSync(lab.outside(file), 'latin1')));
    assertWhole(readFileSync(lab.outside(file), 'latin1'));
  });

  it('writes to a standard error that nobody reads', async () => {
    const { lab } = scene;
    mkdirSync(`${lab.directory}/run`, { recursive: true });
    // Its pipe is never read.
    const other = spawn(programOf('ours'), ['--root', lab.directory], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LIBVIRT_DEBUG: '1', LIBVIRT_LOG_OUTPUTS: '1:stderr' },
    });
    try {
      const socket = `${lab.directory}/run/libvirt/virtlockd-sock`;
      const peer = await eventually('it accepts', async () => Peer.connect(socket));
      await peer.must(lock.register({ pid: NOBODY, name: 'n'.repeat(1000) }));
      for (let i = 0; i < CALLS; i++) await peer.must(lock.register({ pid: NOBODY, name: 'n'.repeat(1000) }));
      peer.close();
    } finally {
      other.kill();
    }
  });

  it('refuses a disk that a process has whose command line nobody can read', async () => {
    const { daemon, lab } = scene;
    await mountStorage({ hasData: true });
    const [disk, go] = [`${lab.directory}/image`, `${lab.directory}/go`];
    writeFileSync(disk, '');
    const holder = lab.spawn('/usr/bin/python3', ['-c', HUNG_IN_MMAP, `${mount}/disk`, disk, go]);
    await eventually('it is locked', () => holder.output.includes('locked'));
    await hang('write');
    writeFileSync(go, '');
    await eventually('the process waits in the kernel', () => statOf(holder.pid).state === 'D');
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY + 3, name: 'other' }));
    const begun = performance.now();
    assert.equal((await peer.ask(lock.acquire('', disk)))?.code, 87);
    assert.ok(performance.now() - begun < SERVED_MS);
    await servedUntil('the refusal is logged', said(`held by another process, pid ${holder.pid}`));
    await scene.holds();
    await storage?.end();
    // It goes on, and ends.
    await holder.exited;
  });

  it('is asked by virt-lockctl for no path on storage that hangs, and virt-lockctl waits for none for long', async () => {
    await mountStorage();
    const { daemon } = scene;
    const holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY + 4, name: 'hung' }));
    await holder.must(lock.acquire('', `${mount}/disk`));
    await hang('getattr', 'open', 'getlk', 'lookup');
    let outputs: readonly string[] | undefined;
    const commands = [['list'], ['check'], ['who', `${mount}/disk`], ['why', `${mount}/disk`], ['clients', '--locks']];
    void Promise.all(
      commands.map(async (words) => {
        const { stdout, stderr } = await scene.lab.run(join(checkout, 'bin/virt-lockctl'), words);
        return stdout + stderr;
      }),
    ).then((all) => (outputs = all));
    await servedUntil('virt-lockctl has answered', () => outputs !== undefined);
    const [list = '', check = '', who = '', why = '', clients = ''] = outputs ?? [];
    assert.match(list, /no answer/);
    assert.match(check, /the storage of this path does not answer/);
    assert.match(who, /hung/);
    assert.match(why, /refused.*hung/);
    assert.match(clients, /disk/);
    await storage?.end();
  });
});
