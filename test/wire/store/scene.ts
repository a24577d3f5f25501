/** A daemon under a service manager with a descriptor store, its clients, and owners in processes of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { HangingStorage, type StorageOptions, unmount } from '../../../src/lab/hanging-storage.ts';
import { Killer } from '../../../src/lab/killer.ts';
import { type ManagerOptions, ServiceManager } from '../../../src/lab/manager.ts';
import { Running } from '../../../src/lab/process.ts';
import { autocreate, type Call, encode, lock, type Peer } from '../../../src/lab/wire.ts';
import { installRoot } from '../../../src/posix/root.ts';
import { readLocks } from '../../../src/proc/locks.ts';

/** No process has these pids, so their locks end by a release alone. */
export const OWNER = { pid: 4_194_305 };
export const RIVAL = { pid: 4_194_306 };

export interface Sleeper {
  readonly pid: number;
  kill(): void;
}

/** Starts the daemon, as `always` and `next` have it. */
const START = `#!/bin/sh
daemon=${join(installRoot, 'bin/virtlockd')}
here=\${0%/*}
if [ -e "$here/always" ]; then . "$here/always"; fi
if mv "$here/next" "$here/taken" 2>/dev/null; then . "$here/taken"; fi
exec "$daemon" "$@"
`;

export class StoreScene {
  readonly directory = mkdtempSync(join(tmpdir(), 'virtlockd-store-'));
  readonly manager: ServiceManager;
  /** Of the daemon that serves, or did last. */
  pid = 0;
  private readonly peers: Peer[] = [];
  private readonly children: Pick<Sleeper, 'kill'>[] = [];
  private readonly storages: HangingStorage[] = [];

  private constructor(options: ManagerOptions, start: string) {
    const program = this.at('start');
    writeFileSync(program, START, { mode: 0o755 });
    this.startWith(start, 'always');
    this.manager = new ServiceManager(this.directory, { env: { FDSTORE: '4096' }, program, ...options });
  }

  /** Returns when the daemon serves. @param start what each start begins with: see {@link startWith} */
  static async begin(options: ManagerOptions = {}, start = ''): Promise<StoreScene> {
    const scene = new StoreScene(options, start);
    await scene.served();
    return scene;
  }

  async end(): Promise<void> {
    for (const storage of this.storages) await storage.letGo();
    for (const peer of this.peers) peer.close();
    for (const child of this.children) child.kill();
    for (const storage of this.storages) {
      await storage.end();
      unmount(storage.mount);
    }
    await this.manager.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Has each further start of the daemon, or only the next one, begin with a line of shell, in which the daemon is `"$daemon" "$@"`. */
  startWith(line: string, which: 'always' | 'next' = 'next'): void {
    writeFileSync(this.at(which), `${line}\n`);
  }

  /** Has the next daemon be traced from its beginning. @param words strace's: `--inject=...` */
  traceNext(...words: readonly string[]): void {
    this.startWith(`exec strace -D -o /dev/null ${words.join(' ')} "$daemon" "$@"`);
  }

  /** Waits for the next daemon, or the next program of this one. */
  async served(limit?: number): Promise<void> {
    ({ pid: this.pid = 0 } = await this.manager.next('ready', limit));
  }

  /** Kills the daemon, and waits until the next one serves. */
  async kill(signal?: NodeJS.Signals): Promise<void> {
    await this.rest();
    ({ pid: this.pid } = await this.manager.kill(this.pid, signal));
  }

  /** A client may have a reply before the daemon clears the call's mark. The daemon has cleared it once it answers another client. */
  async rest(): Promise<void> {
    const probe = await this.client();
    await probe.ask(lock.restrict());
    probe.close();
  }

  async client(owner?: Parameters<typeof lock.register>[0]): Promise<Peer> {
    const peer = await this.manager.connect();
    this.peers.push(peer);
    if (owner !== undefined) await peer.must(lock.register(owner));
    return peer;
  }

  at(name: string): string {
    return join(this.directory, name);
  }

  async isRefused(peer: Peer, name: string, flags = autocreate): Promise<boolean> {
    return ((await peer.ask(lock.acquire('', this.at(name), flags)))?.message ?? '').includes('is locked');
  }

  /** Mounts storage that the scene unmounts at its end. By default it has its locks itself, as a network file system does. */
  async mount(name: string, options: StorageOptions = { hasOwnLocks: true }): Promise<HangingStorage> {
    const storage = await HangingStorage.mountAt(this.at(name), options);
    this.storages.push(storage);
    return storage;
  }

  /** What the daemon has open, by the kernel's names. */
  openFiles(): string[] {
    const directory = `/proc/${this.pid}/fd`;
    return readdirSync(directory).flatMap((fd) => {
      try {
        return [readlinkSync(join(directory, fd))];
      } catch {
        return []; // Closed meanwhile.
      }
    });
  }

  /** The kind of a file's lock in /proc/locks: `OFDLCK` or `POSIX`. */
  kindOf(name: string): string | undefined {
    const { ino } = statSync(this.at(name));
    return readLocks().find(({ inode }) => inode === BigInt(ino))?.kind;
  }

  /** How many descriptors of a kind are stored, by the first letter of their names. */
  async stored(kind: string): Promise<number> {
    return (await this.manager.stored()).filter((name) => name.startsWith(kind)).length;
  }

  /** Names of files in flight, as words. */
  async storedFiles(): Promise<readonly number[]> {
    return this.manager.files();
  }

  /** @param isStubborn it ignores SIGTERM */
  async owner(isStubborn = false): Promise<OwnerProcess> {
    const owner = new OwnerProcess(this.manager.socket, isStubborn);
    this.children.push(owner);
    await owner.call(lock.register({ pid: PLACEHOLDER }));
    return owner;
  }

  /** A process that others register as an owner. */
  sleeper(): Sleeper {
    const child = spawn('sleep', ['1000']);
    const sleeper = { pid: child.pid ?? 0, kill: () => child.kill('SIGKILL') };
    this.children.push(sleeper);
    return sleeper;
  }

  /** Returns what it prints, whatever its exit status: a verdict is about the whole machine. */
  async lockctl(...words: readonly string[]): Promise<string> {
    const command = [join(installRoot, 'bin/virt-lockctl'), '--connect', this.manager.adminSocket, ...words];
    return (await Running.start(command, { env: { PATH: '/usr/bin:/bin' } }, {}).exited).stdout;
  }

  /** Kills the daemon as it enters its nth system call of a kind, counted from now on. */
  async killer(call: string, count: number): Promise<Killer> {
    return Killer.at(this.pid, { [call]: `signal=KILL:when=${count}` });
  }
}

/** Stands for the process's own pid in a call of {@link OwnerProcess}. */
const PLACEHOLDER = 0x01020304;

/** An owner with a connection of its own. */
const SCRIPT = `
import os, signal, socket, struct, sys
if sys.argv[2] == 'stubborn': signal.signal(signal.SIGTERM, signal.SIG_IGN)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for line in sys.stdin:
  command, *words = line.split()
  if command == 'close':
    connection.close()
  else:
    connection.sendall(bytes.fromhex(words[0].replace('01020304', '%08x' % os.getpid())))
  if command == 'call':
    length, = struct.unpack('>I', connection.recv(4, socket.MSG_WAITALL))
    connection.recv(length - 4, socket.MSG_WAITALL)
  print('done', flush=True)
signal.pause()
`;

export class OwnerProcess {
  readonly child: ChildProcess;
  private readonly lines: Interface;

  constructor(socket: string, isStubborn: boolean) {
    const words = ['-c', SCRIPT, socket, isStubborn ? 'stubborn' : ''];
    const child = spawn('/usr/bin/python3', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child = child;
    this.lines = createInterface(child.stdout);
  }

  async call(call: Call): Promise<void> {
    await this.tell(`call ${encode(call).toString('hex')}`);
  }

  /** Sends bytes, and waits for no reply. */
  async send(bytes: Buffer): Promise<void> {
    await this.tell(`send ${bytes.toString('hex')}`);
  }

  /** Closes its connection. */
  async close(): Promise<void> {
    await this.tell('close');
  }

  get isAlive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  /** The signal that ends it. */
  async ended(): Promise<NodeJS.Signals | null> {
    if (this.isAlive) await once(this.child, 'exit');
    return this.child.signalCode;
  }

  private async tell(line: string): Promise<void> {
    this.child.stdin?.write(`${line}\n`);
    // The text and the end of its line may come one by one.
    await once(this.lines, 'line');
  }
}
