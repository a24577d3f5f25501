/** virt-lockctl where it cannot print, is interrupted, is read slowly, or cannot write its file. */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { XdrWriter } from '../../../../xdr/codec.ts';
import { beginMessage, endMessage, MessageStatus, MessageType } from '../../../../xdr/frame.ts';
import { inquireProgram, type LockInfo } from '../../../../xdr/programs/inquire.ts';
import { type LockDaemon, programOf, startDaemon } from '../../../../src/lab/start.ts';
import { eventually, type Finished, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';

const program = join(checkout, 'bin/virt-lockctl');

describe('virt-lockctl', function () {
  this.timeout(30_000);
  let daemon: LockDaemon;
  /** Holds a socket of the admin's name, at which the tests answer. */
  let directory: string;
  let listener: Server | undefined;
  let running: Running | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  beforeEach(() => {
    directory = mkdtempSync(join(daemon.lab.directory, 'admin-'));
  });

  afterEach(async () => {
    await running?.stop('SIGKILL');
    running = undefined;
    listener?.close();
    listener = undefined;
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** Resolves with the first connection that makes a call. */
  const asked = async (): Promise<Socket> => {
    listener ??= createServer().listen(join(directory, 'virtlockd-admin-sock'));
    const [connection] = (await once(listener, 'connection')) as [Socket];
    connection.on('error', () => undefined);
    await once(connection, 'data');
    return connection;
  };
  /** By a shell, with redirections behind the command. */
  const inShell = async (behind: string, ...args: readonly string[]): Promise<Finished> =>
    daemon.lab.run('/bin/sh', ['-c', `"$@" ${behind}`, 'sh', program, ...args]);

  describe('with standard output on a full disk', () => {
    for (const line of [
      'status',
      'list',
      'list --json',
      'who /etc/passwd',
      'metrics',
      'serve',
      '--help',
      '--version',
    ]) {
      it(`${line} says so`, async () => {
        const { code, stderr } = await inShell('>/dev/full', ...line.split(' '));
        assert.match(stderr, /^virt-lockctl: cannot write to standard output: ENOSPC.*\n$/);
        assert.equal(code, 1);
      });
    }
  });

  it('ends with the same status when nobody can read what is wrong', async () => {
    const { code } = await inShell('2>/dev/full', '--connect', directory, 'status');
    assert.equal(code, 3);
    assert.equal((await inShell('2>/dev/full', 'status', '--nonsense')).code, 2);
  });

  it('does not understand a URI that is encoded wrongly', async () => {
    for (const command of [['status'], ['who', '/none']]) {
      const { code, stderr } = await inShell('', '-c', 'virtlockd:///system?socket=%zz', ...command);
      assert.match(stderr, /^virt-lockctl: unknown daemon 'virtlockd:\/\/\/system\?socket=%zz'/);
      assert.equal(code, 2);
    }
  });

  describe('interrupted while the daemon does not answer', () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      for (const line of ['status', 'list', 'check', 'who /none']) {
        it(`${line} dies of ${signal}`, async () => {
          const question = asked();
          running = daemon.lab.spawn(program, ['--connect', directory, ...line.split(' ')]);
          await question;
          assert.equal((await running.stop(signal, 5000)).signal, signal);
        });
      }

      for (const line of ['watch', 'metrics --interval 1 --write', 'serve']) {
        it(`${line} ends cleanly by ${signal}`, async () => {
          const question = asked();
          const file = line.endsWith('--write') ? [join(directory, 'metrics')] : [];
          const tool = daemon.lab.spawn(program, ['--connect', directory, ...line.split(' '), ...file]);
          running = tool;
          await question;
          if (line === 'serve') await eventually('the address is printed', () => tool.output.includes('\n'));
          const { code, stderr } = await tool.stop(signal, 5000);
          assert.deepEqual([code, stderr], [0, '']);
        });
      }
    }
  });

  it('finishes an exchange of the daemon all the same', async () => {
    const at = '/usr/sbin/virtlockd-here';
    const lab = await openLab();
    lab.install(programOf('ours'), at);
    const exchanged = await startDaemon('ours', { lab, program: at });
    try {
      const [begun, go, broken] = ['begun', 'go', 'broken'].map((name) => join(lab.directory, name)) as [
        string,
        string,
        string,
      ];
      const version = `[ "$1" = --version ] && echo 'x (libvirt) 9.0.0' && exit 0`;
      writeFileSync(broken, `#!/bin/sh\n${version}\n: >${begun}\ncat ${go}\nexit 7\n`, { mode: 0o755 });
      await lab.run('mkfifo', [go]);
      const tool = lab.spawn(program, ['swap', '--to', broken]);
      await eventually('the daemon looks at the new program', () => existsSync(begun));
      tool.kill('SIGINT');
      await lab.run('/bin/sh', ['-c', `: >${go}`]);
      const { code, stderr } = await tool.exited;
      assert.match(stderr, /^The former program is back/m);
      assert.equal(code, 1);
      assert.equal((await lab.run('readlink', [at])).stdout.trim(), programOf('ours'));
    } finally {
      await exchanged.stop();
      await lab.close();
    }
  });

  describe('listing 10000 locks', () => {
    const [pages, locks] = [20, 500];

    /** Starts the list and answers its calls. Its output is read only after the last call. */
    const list = async (): Promise<ChildProcessByStdio<null, Readable, null>> => {
      const question = asked();
      const child = spawn(program, ['--connect', directory, 'list', '--json'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const connection = await question;
      connection.write(noStorages(0));
      await once(connection, 'data');
      for (let page = 1; page <= pages; page++) {
        connection.write(pageOf(page, locks, page === pages ? 0 : page));
        if (page < pages) await once(connection, 'data');
      }
      return child;
    };

    it('asks for all, however slowly they are read', async () => {
      const child = await list();
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      assert.deepEqual(await once(child, 'close'), [0, null]);
      const names = (JSON.parse(text) as { name: string }[]).map(({ name }) => name);
      assert.equal(new Set(names).size, pages * locks);
    });

    it('ends well when the reader has seen enough', async () => {
      const child = await list();
      child.stdout.destroy();
      assert.deepEqual(await once(child, 'close'), [0, null]);
    });
  });

  describe('metrics --write', () => {
    const tool = (...args: readonly string[]): readonly string[] => [
      'metrics',
      '--write',
      join(directory, 'textfile/virtlockd.prom'),
      ...args,
    ];
    const metrics = (): string => readFileSync(join(directory, 'textfile/virtlockd.prom'), 'latin1');

    it('makes a file that another user can read', async () => {
      mkdirSync(join(directory, 'textfile'));
      const umask = ['-c', 'umask 077; exec "$@"', 'sh', program];
      assert.equal((await daemon.lab.run('/bin/sh', [...umask, ...tool()])).code, 0);
      assert.equal(statSync(join(directory, 'textfile/virtlockd.prom')).mode & 0o777, 0o644);
      assert.match(metrics(), /^virtlockd_up 1$/m);
    });

    it('writes that the daemon is down, and says why', async () => {
      mkdirSync(join(directory, 'textfile'));
      await daemon.lab.run(program, tool());
      const { code, stderr } = await daemon.lab.run(program, ['--connect', directory, ...tool()]);
      assert.match(stderr, /^virt-lockctl: virtlockd is not running/);
      assert.equal(code, 3);
      assert.match(metrics(), /^virtlockd_up 0$/m);
    });

    it('tries again at the next interval when it could not write', async () => {
      running = daemon.lab.spawn(program, tool('--interval', '1'));
      const said = (): boolean => /^virt-lockctl: cannot write .*virtlockd\.prom: ENOENT/m.test(running?.output ?? '');
      await eventually('it says so', said);
      mkdirSync(join(directory, 'textfile'));
      await eventually('it has written', () => metrics().includes('virtlockd_up 1'));
      rmSync(join(directory, 'textfile'), { recursive: true });
      assert.equal((await running.stop('SIGINT')).code, 0);
    });
  });
});

/** The reply to the call with this serial: a page of locks. */
function pageOf(serial: number, count: number, next: number): Buffer {
  const locks = Array.from({ length: count }, (_, index): LockInfo => {
    const name = `/images/of-this-page-${serial}/disk-${index}.img`;
    const file = { descriptor: 9, device: 1, inode: 1n, file: 1 };
    return { lockspace: '', name, path: name, flags: 0, ...file, holdCount: 0, firstHold: 0, holds: [] };
  });
  const { number, result } = inquireProgram.procedures.locks;
  return reply(number, serial, (writer) => {
    result.write(writer, { locks, next: BigInt(next) });
  });
}

function noStorages(serial: number): Buffer {
  const { number, result } = inquireProgram.procedures.storages;
  return reply(number, serial, (writer) => {
    result.write(writer, { storages: [] });
  });
}

function reply(procedure: number, serial: number, write: (writer: XdrWriter) => void): Buffer {
  const writer = new XdrWriter(1024);
  const { number: program, version } = inquireProgram;
  const header = { program, version, procedure, type: MessageType.REPLY, serial, status: MessageStatus.OK };
  const start = beginMessage(writer, header);
  write(writer);
  endMessage(writer, start);
  return writer.bytes();
}
