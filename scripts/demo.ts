/**
 * `npm run demo`: without root or libvirt, in a scratch directory, starts the daemon. Two stand-ins for guests lock one disk, and
 * virt-lockctl shows who has it. The daemon re-executes itself, the owner is killed, and its lock is free. Then a daemon that systemd runs
 * dies, and its lock does not.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../src/client/client.ts';
import { executeAgain } from '../src/lab/process.ts';
import { lockProgram } from '../xdr/programs/lock.ts';

const [, script = '', role, ...words] = process.argv;
const LIMIT_MS = 20_000;
const program = (name: string): string => path.join(import.meta.dirname, '..', 'bin', name);

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

/** Returns the output; undefined if the command failed. */
function output(command: string, ...args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout.trim() : undefined;
}

interface StandIn {
  readonly process: ChildProcess;
  lock(disk: string): Promise<string>;
}

/** A scratch directory for one daemon, with a disk for its guests. */
class Stage {
  readonly directory = mkdtempSync(path.join(os.tmpdir(), 'virtlockd-'));
  readonly disk: string;
  readonly socket: string;
  readonly children: ChildProcess[] = [];

  /** @param run the daemon's runtime directory, below this one */
  constructor(run: string) {
    this.disk = path.join(this.directory, 'disk.img');
    writeFileSync(this.disk, '');
    this.socket = path.join(this.directory, run, 'libvirt/virtlockd-sock');
    mkdirSync(path.dirname(this.socket), { recursive: true });
  }

  guest(name: string): StandIn {
    const child = spawn(process.execPath, [script, 'guest', this.socket, name], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.children.push(child);
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

  /** Two guests want the same disk. The first gets it, the second is refused. */
  async twoGuests(): Promise<readonly [StandIn, StandIn]> {
    const both = [this.guest('guest-a'), this.guest('guest-b')] as const;
    expect(await both[0].lock(this.disk), /^locked/);
    expect(await both[1].lock(this.disk), /^refused/);
    return both;
  }

  /** What a command of virt-lockctl prints. */
  asked(...command: readonly string[]): string | undefined {
    return output(program('virt-lockctl'), '--connect', path.dirname(this.socket), ...command);
  }

  /** Shows a command of virt-lockctl as an operator would type it, and what it prints. */
  show(...command: readonly string[]): void {
    console.log(`  $ virt-lockctl ${command.join(' ')}`);
    const said = this.asked(...command);
    if (said === undefined) throw new Error('virt-lockctl has failed');
    console.log(said.replaceAll(/^/gm, '  '));
  }

  killAll(): void {
    for (const child of this.children) child.kill('SIGKILL');
  }

  clear(): void {
    this.killAll();
    rmSync(this.directory, { recursive: true, force: true });
  }
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

/** Ends the process when the play takes too long. */
async function timely(stage: Stage, play: () => Promise<void>): Promise<void> {
  const late = setTimeout(() => {
    console.error(`demo: not done within ${LIMIT_MS / 1000} s`);
    stage.killAll();
    process.exit(1);
  }, LIMIT_MS);
  try {
    await play();
  } finally {
    clearTimeout(late);
    stage.clear();
  }
}

async function restart(stage: Stage): Promise<void> {
  const { directory, disk, socket, children } = stage;
  say(`The daemon starts, with all its paths below ${directory}.`);
  const listening = appears(socket);
  const log = path.join(directory, 'daemon.log');
  const lines = openSync(log, 'a');
  const daemon = spawn(program('virtlockd'), ['--root', directory], {
    env: { ...process.env, XDG_RUNTIME_DIR: '/run', HOME: '/' },
    stdio: ['ignore', lines, lines],
  });
  closeSync(lines);
  children.push(daemon);
  const ended = once(daemon, 'exit').then(() => {
    throw new Error(`the daemon does not start:\n${readFileSync(log, 'utf8').trimEnd()}`);
  });
  await Promise.race([listening, ended]);
  // It ends below.
  ended.catch(() => undefined);

  say('Two guests want the same disk. The first gets it, the second is refused.');
  const [first, second] = await stage.twoGuests();

  say('virt-lockctl shows who has the disk, and why the second guest was refused.');
  stage.show('who', disk);
  stage.show('refusals');

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
}

/** root's systemd is the host's; an ordinary user may have one of their own. */
const manager = process.geteuid?.() === 0 ? '--system' : '--user';

const unit = `virtlockd-demo-${process.pid}.service`;
const systemctl = (...args: readonly string[]): string | undefined => output('systemctl', manager, ...args);
const mainPid = (): string => systemctl('show', '--value', '--property=MainPID', unit) ?? '';

/** What the package's unit has for the daemon's death. */
const SETTINGS = [
  '--service-type=notify',
  '--property=NotifyAccess=main',
  '--property=FileDescriptorStoreMax=64',
  '--property=Restart=always',
  '--property=RestartSec=0',
  '--property=StartLimitIntervalSec=0',
  '--property=KillMode=process',
];

async function death(stage: Stage): Promise<void> {
  const { directory, disk, socket } = stage;
  const run = [
    manager,
    '--quiet',
    '--collect',
    `--unit=${unit}`,
    ...SETTINGS,
    `--setenv=PATH=${process.env.PATH ?? ''}`,
  ];
  if (output('systemd-run', ...run, program('virtlockd'), '--root', directory) === undefined) {
    throw new Error('systemd-run has failed');
  }
  try {
    say('systemd runs another daemon, and keeps its descriptors. Two guests again:');
    const [, second] = await stage.twoGuests();
    // A daemon that has just been started asks systemd first whether it keeps anything.
    const isKept = (): boolean => stage.asked('status')?.includes('would cost no lock') === true;
    while (!isKept()) await pause(100);

    const before = mainPid();
    say(`kill -9 ${before}: systemd starts the daemon again. Still refused, on the same connection.`);
    process.kill(Number(before), 'SIGKILL');
    expect(await second.lock(disk), /^refused/);
    console.log(`  the daemon: pid ${mainPid()}, was ${before}`);
  } finally {
    stage.killAll();
    // Without this, the daemon has systemd start it again while a guest holds a lock.
    writeFileSync(path.join(path.dirname(socket), 'virtlockd-may-stop'), '');
    systemctl('stop', unit);
  }
}

async function demo(): Promise<void> {
  const first = new Stage('/run');
  await timely(first, async () => restart(first));
  if (systemctl('show', '--property=Version') === undefined) {
    say(
      `No death of the daemon is shown, because there is no systemd that would start it again (systemctl ${manager}).`,
    );
    return;
  }
  const second = new Stage(manager === '--user' ? (process.env.XDG_RUNTIME_DIR ?? '/run') : '/run');
  await timely(second, async () => death(second));
}

if (role === 'guest') await guest(words[0] ?? '', words[1] ?? '');
else {
  await demo().catch((error: unknown) => {
    console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  });
}
