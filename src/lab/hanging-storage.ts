/** A file system whose requests can be made to hang or fail, each kind alone: see fuse.py. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { posix } from '../posix/posix.ts';
import { eventually, Running } from './process.ts';
import type { Lab } from './root.ts';

/** Requests that can be chosen. Each is sent for one of the daemon's calls. */
export type StorageRequest =
  | 'lookup'
  | 'getattr'
  | 'open'
  | 'create'
  | 'setlk'
  | 'getlk'
  | 'flush'
  | 'release'
  | 'unlink'
  | 'read'
  | 'write'
  | 'fsync'
  | 'mkdir';

export interface StorageLock {
  readonly name: string;
  /** Counted from 0. */
  readonly mount: number;
  readonly shared: boolean;
}

export interface StorageOptions {
  /** Its server has the locks, as GlusterFS's, and not the kernel. */
  readonly hasOwnLocks?: boolean;
  /** Its server grants every lock. */
  readonly grantsAll?: boolean;
  /** Its server reports no lock to the mount that has it. */
  readonly hidesOwn?: boolean;
  /** Its server knows so many low bits of the offsets of locks; 0: a lock is the whole file's. */
  readonly offsetBits?: number;
  /** Where it is mounted a second time, as for another host. */
  readonly also?: string;
  /** Kernels keep names and attributes for an hour, whatever another mount does to them. */
  readonly hasCachedNames?: boolean;
  /** Its file has 4096 bytes. */
  readonly hasData?: boolean;
}

export class HangingStorage {
  /** Where it is mounted. */
  readonly mount: string;
  readonly server: Running;
  private readonly control: string;

  private constructor(mount: string, server: Running, control: string) {
    this.mount = mount;
    this.server = server;
    this.control = control;
  }

  /** Mounts one at `storage` in the directory of a lab, for processes in the lab. */
  static async mountIn(lab: Lab, options?: StorageOptions): Promise<HangingStorage> {
    const mount = join(lab.directory, 'storage');
    const control = `${lab.outside(mount)}.control`;
    return HangingStorage.start((program, ...args) => lab.spawn(program, args), mount, control, options);
  }

  /** Mounts one at a path of this process's namespace. */
  static async mountAt(mount: string, options?: StorageOptions): Promise<HangingStorage> {
    return HangingStorage.start(
      (...words) => Running.start(words, { env: {} }, {}),
      mount,
      `${mount}.control`,
      options,
    );
  }

  /**
   * Mounts one by a process that is started with some words before it, such as those that enter a namespace.
   * @param mount means the same there and here
   */
  static async mountBy(words: readonly string[], mount: string): Promise<HangingStorage> {
    const spawn = (...command: string[]): Running => Running.start([...words, ...command], { env: {} }, {});
    return HangingStorage.start(spawn, mount, `${mount}.control`);
  }

  private static async start(
    spawn: (program: string, ...args: string[]) => Running,
    mount: string,
    control: string,
    given: StorageOptions = {},
  ): Promise<HangingStorage> {
    const { hasOwnLocks = false, grantsAll = false, also, hasCachedNames = false, hasData = false } = given;
    const { hidesOwn = false, offsetBits } = given;
    for (const point of also === undefined ? [mount] : [mount, also]) mkdirSync(point, { recursive: true });
    const script = join(import.meta.dirname, 'fuse.py');
    const options = [
      ...(hasOwnLocks ? ['posix-locks'] : []),
      ...(grantsAll ? ['grants'] : []),
      ...(hidesOwn ? ['hides'] : []),
      ...(offsetBits === undefined ? [] : [`offset-bits=${offsetBits}`]),
      ...(hasData ? ['data'] : []),
      ...(hasCachedNames ? ['cached'] : []),
      ...(also === undefined ? [] : [`also=${also}`]),
    ];
    const server = spawn('/usr/bin/python3', script, mount, `${mount}.control`, ...options);
    await eventually('it is mounted', () => {
      if (server.finished !== undefined) throw new Error(server.output);
      return server.output.includes('mounted');
    });
    return new HangingStorage(mount, server, control);
  }

  /** The requests so far, in their order. */
  get requests(): string[] {
    return this.server.output
      .split('\n')
      .filter((line) => /^[a-z]+$/.test(line) && line !== 'mounted' && line !== 'violation');
  }

  async hang(...requests: StorageRequest[]): Promise<void> {
    for (const request of requests) await this.order(`hang ${request}`);
  }

  /** @param errno 0: they succeed again @param times how many fail; else all do */
  async fail(request: StorageRequest, errno: number, times?: number): Promise<void> {
    await this.order(`fail ${request} ${errno}${times === undefined ? '' : ` ${times}`}`);
  }

  /** getlk names this process. */
  async holder(pid: number): Promise<void> {
    await this.order(`holder ${pid}`);
  }

  /** All locks are gone, as those of a host that was cut off for too long. */
  async drop(): Promise<void> {
    await this.order('drop');
  }

  /** All locks but those of the first mount go, once so many getlk are answered. */
  async leave(after: number): Promise<void> {
    await this.order(`leave ${after}`);
  }

  /** The locks that the server has of files' first bytes. */
  async locks(): Promise<StorageLock[]> {
    const before = this.server.output.length;
    await this.order('locks');
    const rows = this.server.output.slice(before).matchAll(/^lock (\S+) (\d) (read|write)$/gm);
    return Array.from(rows, ([, name = '', mount, type]) => ({ name, mount: Number(mount), shared: type === 'read' }));
  }

  /** How often a mount has removed a name of a file that another one had locked. */
  get violations(): number {
    return this.server.output.split('\nviolation\n').length - 1;
  }

  /** Answers all requests, also those that hang. */
  async letGo(): Promise<void> {
    await this.order('go');
  }

  /** Waits until the storage has got that request since the last so many. */
  async asked(request: StorageRequest, after = 0): Promise<void> {
    await eventually(`the storage gets ${request}`, () => this.requests.slice(after).includes(request));
  }

  private async order(text: string): Promise<void> {
    const said = (): number => this.server.output.split(`order ${text}\n`).length;
    const before = said();
    const status = posix.sendDatagram(this.control, Buffer.from(text));
    if (status < 0) throw new Error(`cannot send to the storage: ${status}`);
    await eventually(`the storage takes the order ${text}`, () => said() > before);
  }

  /** Ends it: whatever hangs fails. */
  async end(): Promise<void> {
    this.server.kill('SIGKILL');
    await this.server.exited;
  }
}

/** Unmounts what is at a directory of this process's namespace. */
export function unmount(directory: string): void {
  execFileSync('umount', ['--lazy', directory]);
}
