/** Finds who has locked a file if another file of that process cannot be stat'ed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { HangingStorage } from '../../../../src/lab/hanging-storage.ts';
import { missingDaemon, missingFuse } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { fileId, findOutsiders } from '../../../../src/programs/lockctl/kernel/holders.ts';
import { skipIf } from '../../../support/skip.ts';

const { EIO, ESTALE } = os.constants.errno;

/** Opens the first file, and locks the second by its open file description (F_OFD_SETLK is 37). */
const HOLDER = `import fcntl, os, struct, sys, time
os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(os.open(sys.argv[2], os.O_RDWR), 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))
print('held', flush=True)
time.sleep(60)
`;

describe('the process of an OFD lock', function () {
  this.timeout(60_000);
  let lab: Lab;
  const running: Running[] = [];

  function start(program: string, args: readonly string[]): Running {
    const started = lab.spawn(program, args);
    running.push(started);
    return started;
  }

  /** Kills it when it takes too long. */
  async function ended(process: Running): Promise<Running> {
    const timer = setTimeout(() => {
      process.kill('SIGKILL');
    }, 10_000);
    await process.exited;
    clearTimeout(timer);
    return process;
  }

  async function run(output: string, ...args: string[]): Promise<number> {
    const started = start('/usr/bin/python3', args);
    await eventually(output, () => {
      if (started.finished !== undefined) throw new Error(started.output);
      return started.output.includes(output);
    });
    return started.pid;
  }

  /** A storage with a file, and a file elsewhere. */
  async function mountBeside(): Promise<{ storage: HangingStorage; disk: string; file: string }> {
    const file = join(lab.directory, 'image');
    writeFileSync(file, '');
    const storage = await HangingStorage.mountIn(lab);
    running.push(storage.server);
    return { storage, disk: join(storage.mount, 'disk'), file };
  }

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'), missingFuse());
    lab = await openLab();
  });

  afterEach(async () => {
    for (const { pid, exited, finished } of running.splice(0)) {
      if (finished === undefined) process.kill(pid, 'SIGKILL');
      await exited;
    }
    await (lab as Lab | undefined)?.close();
  });

  it('is found although the storage of another file that it has open fails', async () => {
    const { storage, disk, file } = await mountBeside();
    const pid = await run('held', '-c', HOLDER, disk, file);
    const found = fileId(file);
    assert.ok(found !== null);
    for (const errno of [0, EIO, ESTALE]) {
      await storage.fail('getattr', errno);
      assert.deepEqual(
        findOutsiders(found).map((outsider) => [outsider.pid, outsider.kind]),
        [[pid, 'OFD']],
        `errno ${errno}`,
      );
    }
  });

  it('is found although the storage of a file does not answer that it, or another process, has open', async () => {
    const { storage, disk, file } = await mountBeside();
    const pid = await run('held', '-c', HOLDER, disk, file);
    const other = await run('held', '-c', HOLDER, file, disk);
    const onStorage = fileId(lab.outside(disk)) ?? fileId(disk);
    await storage.hang('getattr', 'lookup', 'open');
    const script = `import { findOutsiders } from '${join(checkout, 'src/programs/lockctl/kernel/holders.ts')}';
      const [device, inode] = process.argv.slice(1);
      const found = findOutsiders({ device: Number(device), inode: BigInt(inode) });
      console.log(JSON.stringify(found.map(({ pid, kind }) => [pid, kind])));`;
    for (const [id, holder] of [
      [fileId(file), pid],
      [onStorage, other],
    ] as const) {
      assert.ok(id !== null);
      const args = ['--input-type=module', '-e', script, String(id.device), String(id.inode)];
      const { finished, output } = await ended(start(join(checkout, 'scripts/node'), args));
      assert.deepEqual([finished?.code, output], [0, `${JSON.stringify([[holder, 'OFD']])}\n`]);
    }
    await storage.letGo();
  });
});

/**
 * As the first process of a pid namespace: locks a file, has a child inherit the descriptor if so asked, and runs the rest of its
 * arguments.
 */
const KEEPER = `import fcntl, os, struct, subprocess, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0))
child = subprocess.Popen(['sleep', '60'], pass_fds=[fd] if sys.argv[2] == 'shared' else [])
subprocess.run(sys.argv[3:], check=True)
child.kill()
`;

describe('systemd, which keeps duplicates of descriptors', function () {
  this.timeout(60_000);

  /** The pids that have locked a file, as seen in a pid namespace whose first process has. */
  function outsiders(how: 'shared' | 'alone'): number[] {
    const directory = mkdtempSync(join(os.tmpdir(), 'virtlockd-keeper-'));
    try {
      const file = join(directory, 'image');
      writeFileSync(file, '');
      const holders = join(checkout, 'src/programs/lockctl/kernel/holders.ts');
      const script = `import { fileId, findOutsiders } from '${holders}';
        console.log(JSON.stringify(findOutsiders(fileId(process.argv[1])).map(({ pid }) => pid)));`;
      const node = [join(checkout, 'scripts/node'), '--input-type=module', '-e', script, file];
      const namespace = ['--pid', '--fork', '--mount-proc', '--kill-child'];
      const output = execFileSync('unshare', [...namespace, 'python3', '-c', KEEPER, file, how, ...node]);
      return JSON.parse(output.toString()) as number[];
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  before(function () {
    skipIf(this, missingDaemon('ours'));
  });

  it('is not named beside the process that it keeps them for', () => {
    const found = outsiders('shared');
    assert.equal(found.length, 1);
    assert.notEqual(found[0], 1);
  });

  it('is named when no other process has the lock', () => {
    assert.deepEqual(outsiders('alone'), [1]);
  });
});
