/**
 * `npm run demo`: without root or libvirt, in a scratch directory, starts the daemon. Two stand-ins for guests lock one disk. The
 * daemon re-executes itself, the owner is killed, and its lock is free.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from '../src/client/client.ts';
import { executeAgain } from '../src/lab/process.ts';
import { lockProgram } from '../xdr/programs/lock.ts';

const [, script = '', role, ...words] = process.argv;
const LIMIT_MS = 20_000;

/** A stand-in for QEMU: registers itself as an owner, keeps the connection, and locks each disk named on its input. */
async function guest(socket: string, name: string): Promise<void> {
  const client = await Client.connect(socket);
  const uuid = Buffer.alloc(16, name);
  await client.call(lockProgram, 'register', { owner: { uuid, name, id: process.pid, pid: process.pid }, flags: 0 });
  for await (const disk of createInterface({ input: process.stdin })) {
    try {
      await client.call(lockProgram, 'acquireResource', { path: '', name: disk, flags: 0 });
      console.log('locked');
    } catch (error) {
      console.log(`refused: ${(error as Error).message}`);
    }
  }
}

function say(text: string): void {
  console.log(`\n* ${text}`);
}

function start(socket: string, name: string): { process: ChildProcess; lock(disk: string): Promise<string> } {
  const child = spawn(process.execPath, [script, 'guest', socket, name], { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    process: child,
    async lock(disk) {
      child.stdin.write(`${disk}\n`);
      const { value } = await answers.next();
      console.log(`  ${name} (pid ${child.pid ?? '?'}): ${String(value)}`);
      return String(value);
    },
  };
}

async function appears(file: string): Promise<void> {
  const watcher = watch(path.dirname(file));
  for (;;) {
    const [, name] = (await once(watcher, 'change')) as [string, string];
    if (name === path.basename(file)) break;
  }
  watcher.close();
}

function expect(answer: string, wanted: RegExp): void {
  if (!wanted.test(answer)) throw new Error(`expected ${String(wanted)}, got '${answer}'`);
}

async function demo(): Promise<void> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'virtlockd-'));
  const children: ChildProcess[] = [];
  const late = setTimeout(() => {
    console.error(`demo: not done within ${LIMIT_MS / 1000} s`);
    for (const child of children) child.kill('SIGKILL');
    process.exit(1);
  }, LIMIT_MS);
  try {
    const disk = path.join(scratch, 'disk.img');
    writeFileSync(disk, '');
    const run = path.join(scratch, 'run', 'libvirt');
    const socket = path.join(run, 'virtlockd-sock');
    mkdirSync(run, { recursive: true });

    say(`The daemon starts, with all its paths below ${scratch}.`);
    const listening = appears(socket);
    const daemon = spawn(path.join(import.meta.dirname, '..', 'bin', 'virtlockd'), ['--root', scratch], {
      env: { ...process.env, XDG_RUNTIME_DIR: '/run', HOME: '/' },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    children.push(daemon);
    await listening;

    say('Two guests want the same disk. The first gets it, the second is refused.');
    const [first, second] = [start(socket, 'guest-a'), start(socket, 'guest-b')];
    children.push(first.process, second.process);
    expect(await first.lock(disk), /^locked/);
    expect(await second.lock(disk), /^refused/);

    say(
      'SIGUSR1: the daemon executes itself again, and keeps every lock and client. Still refused, on the same connection.',
    );
    await executeAgain(daemon.pid ?? 0);
    expect(await second.lock(disk), /^refused/);

    say('The first guest is killed. Its connection ends, so its lock is free.');
    first.process.kill('SIGKILL');
    await once(first.process, 'exit');
    let answer = '';
    for (let attempt = 0; attempt < 100 && answer !== 'locked'; attempt++) answer = await second.lock(disk);
    expect(answer, /^locked/);

    say('The daemon ends. A guest without its lock could damage its disk, so the daemon ends the second guest, too.');
    daemon.kill('SIGTERM');
    const [[code], [status, signal]] = (await Promise.all([once(daemon, 'exit'), once(second.process, 'exit')])) as [
      [number | null],
      [number | null, string | null],
    ];
    console.log(`  daemon: exit ${code ?? 'by signal'}; guest-b: ${signal ?? `exit ${status ?? '?'}`}`);
  } finally {
    clearTimeout(late);
    for (const child of children) child.kill('SIGKILL');
    rmSync(scratch, { recursive: true, force: true });
  }
}

if (role === 'guest') await guest(words[0] ?? '', words[1] ?? '');
else await demo();
