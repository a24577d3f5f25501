/** At any moment of its life only the intended signals end the daemon, and these in order. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Actor } from '../../../src/programs/conformance/exchange/actor.ts';
import { CHECK_FAILED } from '../../../src/restart/answers.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { type DaemonOptions, type LockDaemon, programOf, reexecute, startDaemon } from '../../../src/lab/start.ts';
import { lockOn } from '../../../src/lab/observe.ts';
import { eventually, programImage } from '../../../src/lab/process.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { autocreate, encode, lock, type Peer } from '../../../src/lab/wire.ts';

const NOBODY = 4_200_000;
const { signals } = constants;

/** Signals sent by mistake that end the C daemon, but are no defect. The numbers are real-time signals. */
const STRAYS = [
  ...(['SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGPROF', 'SIGIO', 'SIGSTKFLT', 'SIGPWR', 'SIGXCPU'] as const).map(
    (name) => signals[name],
  ),
  signals.SIGTRAP,
  signals.SIGXFSZ,
  signals.SIGPIPE,
  32,
  33,
  34,
  50,
  64,
];
const ENDS = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;

/** The signal masks of a process as its status in /proc shows them: pending, blocked, ignored, caught. */
function masks(status: string): Record<'SigBlk' | 'SigIgn' | 'SigCgt', bigint> {
  const of = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*(\\w+)$`, 'm').exec(status)?.[1] ?? ''}`);
  return { SigBlk: of('SigBlk'), SigIgn: of('SigIgn'), SigCgt: of('SigCgt') };
}

const masksOf = (pid: number): ReturnType<typeof masks> => masks(readFileSync(`/proc/${pid}/status`, 'latin1'));

const NONE = 0n;

describe('signals', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let holder: Peer;
  let disk: string;

  before(function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
  });

  async function begin(options: Pick<DaemonOptions, 'env' | 'args'> = {}): Promise<void> {
    const lab = await openLab();
    lab.install(programOf('ours'));
    daemon = await startDaemon('ours', { lab, program: PROGRAM, ...options });
    disk = `${daemon.lab.directory}/disk`;
    holder = await daemon.connect();
    await holder.must(lock.register({ pid: NOBODY, name: 'holder' }));
    await holder.must(lock.acquire('', disk, autocreate));
  }

  afterEach(async function () {
    const running = daemon as LockDaemon | undefined;
    if (running === undefined) return;
    if (this.currentTest?.state === 'failed') process.stderr.write(running.log);
    await running.stop();
    await running.lab.close();
  });

  async function isServed(): Promise<void> {
    assert.equal((await holder.ask(lock.acquire('', disk)))?.code, 87);
    assert.notEqual(lockOn(daemon.pid, disk), undefined);
  }

  /** Sends SIGUSR1 and returns in the first moment of the new program. */
  async function executed(): Promise<void> {
    const before = programImage(daemon.pid);
    process.kill(daemon.pid, 'SIGUSR1');
    // Polled without a pause: the moment lasts 30 ms.
    for (const until = performance.now() + 20_000; programImage(daemon.pid) === before;) {
      assert.ok(performance.now() < until, 'the program is executed');
      await new Promise(setImmediate);
    }
  }

  it('that mean nothing are ignored, and said once', async () => {
    await begin();
    for (let round = 0; round < 2; round++) {
      for (const signal of STRAYS) {
        process.kill(daemon.pid, signal);
        await isServed();
      }
    }
    await eventually('the last one is said', () => daemon.log.includes('Ignoring signal 64'));
    const said = daemon.log.split('\n').filter((line) => line.includes('Ignoring'));
    assert.match(said[0] ?? '', new RegExp(`warning .*Ignoring SIGUSR2 from process [0-9]+$`));
    assert.equal(new Set(said.map((line) => line.slice(line.indexOf('Ignoring')))).size, said.length);
  });

  it('do not end a daemon that has just been executed', async () => {
    await begin();
    for (let round = 0; round < 6; round++) {
      await executed();
      const storm = { goesOn: true };
      const answer = isServed().finally(() => (storm.goesOn = false));
      while (storm.goesOn) {
        for (const signal of [signals.SIGHUP, ...STRAYS]) process.kill(daemon.pid, signal);
        // Faster, and the real-time ones among them would fill the queue that all of the host's processes have.
        await pause(1);
      }
      await answer;
    }
  });

  it('reload the configuration when they came before anybody listened', async () => {
    await begin({ args: ['--verbose'] });
    await executed();
    process.kill(daemon.pid, 'SIGHUP');
    await eventually('it is reloaded', () => daemon.log.includes('Configuration taken up'));
    await isServed();
  });

  for (const end of ENDS) {
    it(`end a daemon in order that has just been executed: ${end}`, async () => {
      await begin();
      const guest = Actor.start();
      try {
        await guest.open('own', daemon.socket);
        await guest.send('own', encode({ ...lock.register({ pid: guest.pid }), serial: 1 }));
        await guest.send('own', encode({ ...lock.acquire('', `${disk}-own`, autocreate), serial: 2 }));
        await eventually('the lock is there', () => lockOn(daemon.pid, `${disk}-own`) !== undefined);
        await executed();
        process.kill(daemon.pid, end);
        const { code, signal } = await daemon.exited;
        assert.deepEqual([code, signal], [0, null]);
        assert.equal(await guest.ended, 'SIGTERM');
        for (const file of ['/run/libvirt/virtlockd-sock', '/run/virtlockd.pid'])
          assert.ok(!existsSync(daemon.lab.outside(file)), file);
      } finally {
        await guest.stop();
      }
    });
  }

  it('end a daemon in order that is still a shell, which the C daemon has become', async () => {
    await begin();
    await daemon.stop();
    // Asked for the program's own path, as that is a link.
    const fifo = `${daemon.lab.directory}/fifo`;
    await daemon.lab.run('mkfifo', [fifo]);
    const slow = `${daemon.lab.directory}/readlink`;
    writeFileSync(
      slow,
      `#!/bin/sh\necho >>${daemon.lab.directory}/asked\nread line <${fifo}\nexec /usr/bin/readlink "$@"\n`,
    );
    chmodSync(slow, 0o755);
    const shell = daemon.lab.spawn(PROGRAM, [], { env: { PATH: `${daemon.lab.directory}:/usr/bin:/bin` } });
    await eventually('the shell waits', () => existsSync(`${daemon.lab.directory}/asked`));
    for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGSTKFLT', 'SIGXFSZ', 'SIGTERM'] as const)
      process.kill(shell.pid, signal);
    writeFileSync(fifo, '\n');
    const { code, signal, stderr } = await shell.exited;
    assert.deepEqual([code, signal], [0, null], stderr);
  });

  it('and what keeps them waiting are no matter of a program that the daemon starts', async () => {
    await begin({ env: { LD_PRELOAD: '/usr/$LIB/libm.so.6' } });
    await reexecute(daemon);
    const seen = `${daemon.lab.directory}/seen`;
    const script = `${daemon.lab.directory}/script`;
    writeFileSync(
      script,
      `#!/bin/sh\n{ cat /proc/self/status; tr '\\0' '\\n' </proc/self/environ; } >${seen}\nexit 7\n`,
    );
    chmodSync(script, 0o755);
    daemon.lab.install(script);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('it is refused', () => daemon.log.includes('exited with 7'));
    const status = readFileSync(seen, 'latin1');
    assert.deepEqual([masks(status).SigBlk, masks(status).SigIgn], [NONE, NONE]);
    assert.match(status, /^LD_PRELOAD=\/usr\/\$LIB\/libm\.so\.6$/m);
    assert.doesNotMatch(readFileSync(`/proc/${daemon.pid}/maps`, 'latin1'), /\(deleted\)/);
  });

  it('are with a C daemon that takes over as with one that was started, and are ours again after that', async () => {
    await begin();
    const ours = masksOf(daemon.pid);
    const c = `${daemon.lab.directory}/c`;
    writeFileSync(c, readFileSync(programOf('9.0.0')));
    chmodSync(c, 0o755);
    daemon.lab.install(c);
    await reexecute(daemon);
    const started = await startDaemon('9.0.0');
    try {
      assert.deepEqual(masksOf(daemon.pid), masksOf(started.pid));
    } finally {
      await started.stop();
    }
    assert.doesNotMatch(readFileSync(`/proc/${daemon.pid}/environ`, 'latin1'), /LD_PRELOAD/);
    daemon.lab.install(programOf('ours'));
    await reexecute(daemon);
    // It has started a helper, as the former one.
    await holder.must(lock.createResource('', `${daemon.lab.directory}/made`));
    assert.deepEqual(masksOf(daemon.pid), ours);
    for (const signal of STRAYS) process.kill(daemon.pid, signal);
    await isServed();
  });

  it('are the main thread`s alone, so that none is heard by a thread that exec ends', async () => {
    await begin();
    await reexecute(daemon);
    assert.equal(masksOf(daemon.pid).SigBlk, NONE);
    const threads = readdirSync(`/proc/${daemon.pid}/task`);
    assert.ok(threads.length > 1);
    const heard = [signals.SIGHUP, signals.SIGUSR1, ...ENDS.map((name) => signals[name]), ...STRAYS.slice(0, 8)];
    for (const thread of threads.filter((id) => Number(id) !== daemon.pid)) {
      const { SigBlk } = masks(readFileSync(`/proc/${daemon.pid}/task/${thread}/status`, 'latin1'));
      for (const signal of heard) assert.ok((SigBlk >> BigInt(signal - 1)) & 1n, `${thread} blocks ${signal}`);
    }
  });
});

describe('signals, before the daemon is one', function () {
  this.timeout(60_000);
  let directory: string;

  before(function () {
    skipIf(this, missingDaemon('ours'));
  });

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd a:b '));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('do not end the proof of a successor', async () => {
    const fifo = join(directory, 'document');
    await once(spawn('mkfifo', [fifo]), 'exit');
    const child = spawn(programOf('ours'), ['--check-state', fifo], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    const document = open(fifo, 'w');
    try {
      const comm = (): string => readFileSync(`/proc/${child.pid ?? ''}/comm`, 'latin1').trim();
      await eventually('it is the runtime', () => comm() !== 'virtlockd' && comm() !== 'launch');
      for (const signal of [signals.SIGHUP, signals.SIGTERM, ...STRAYS]) process.kill(child.pid ?? 0, signal);
      await Promise.race([document, ended]);
    } finally {
      // Whoever waits for the other end need not.
      closeSync(openSync(fifo, 'r+'));
      await (await document).close();
    }
    assert.deepEqual(await ended, [CHECK_FAILED, null]);
  });

  it('could end a successor that nothing guards, which is refused', () => {
    cpSync(join(checkout, 'dist'), join(directory, 'dist'), { recursive: true });
    cpSync(join(checkout, 'bin'), join(directory, 'bin'), { recursive: true });
    // There, but no library that can be loaded.
    writeFileSync(join(directory, 'dist', 'guard.so'), '');
    symlinkSync(join(checkout, 'node_modules'), join(directory, 'node_modules'));
    const { status, stdout } = spawnSync(join(directory, 'bin/virtlockd'), ['--check-state', '/dev/null']);
    assert.equal(status, CHECK_FAILED);
    assert.match(stdout.toString(), /guard\.so/);
  });

  it('wait although no LD_PRELOAD could hold the path of the program', async () => {
    for (const part of ['launch', 'guard.so']) cpSync(join(checkout, 'dist', part), join(directory, part));
    const script = `process.stdout.write(require('fs').readFileSync('/proc/self/status', 'latin1') + (process.env.LD_PRELOAD ?? ''))`;
    const child = spawn(join(directory, 'launch'), [process.execPath, '--disable-sigusr1', '-e', script]);
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString('latin1')));
    await once(child, 'close');
    assert.ok(masks(output).SigBlk & 1n, output);
    assert.doesNotMatch(output, /proc\/self\/fd/);
  });
});
