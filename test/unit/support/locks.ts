/** Locks as the kernel reports them, and a second process to hold some. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { locksOf } from '../../../src/lab/observe.ts';

/** `READ`, `WRITE` or undefined: the lock that a process (by default this one) has on byte 0 of the file. */
export function lockOf(file: string, pid = process.pid): string | undefined {
  const { ino } = statSync(file);
  const row = locksOf(pid).find(({ inode }) => inode === ino);
  if (row !== undefined && (row.start !== 0 || row.end !== 0)) throw new Error(`range ${row.start} to ${row.end}`);
  return row?.access;
}

/** Another process that has locked byte 0 of a file, until it is let go. */
export class OtherProcess {
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.child = child;
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** `owner`: the process, or the open file description (F_OFD_SETLK), for which the kernel reports no process. */
  static async lock(
    file: string,
    kind: 'READ' | 'WRITE',
    owner: 'process' | 'file' = 'process',
  ): Promise<OtherProcess> {
    const script =
      'import fcntl,struct,sys,os\n' +
      "fd=os.open(sys.argv[1],os.O_RDWR)\nkind=fcntl.F_RDLCK if sys.argv[2]=='READ' else fcntl.F_WRLCK\n" +
      "command=fcntl.F_SETLK if sys.argv[3]=='process' else 37\n" +
      "fcntl.fcntl(fd,command,struct.pack('hhqqi4x',kind,0,0,1,0))\nprint('held',flush=True)\nsys.stdin.read()\n";
    const child = spawn('python3', ['-c', script, file, kind, owner], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    return new OtherProcess(child);
  }

  async end(): Promise<void> {
    const gone = once(this.child, 'close');
    this.child.stdin?.end();
    await gone;
  }
}

/** How a {@link Rival} asks. */
export interface RivalOptions {
  /** Of its process, or of its open file. */
  readonly owner?: 'process' | 'file';
  readonly access?: 'READ' | 'WRITE';
  /** It waits for the lock in the kernel (F_SETLKW) in place of asking over and over. */
  readonly waits?: boolean;
}

/**
 * Another process that tries to lock byte 0 of a file, by default exclusively, over and over, until it is ended. What it gets it gives back
 * the moment after.
 */
export class Rival {
  private readonly child: ChildProcess;
  private said = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on('data', (data: Buffer) => (this.said += data.toString()));
  }

  static async at(
    file: string,
    { owner = 'process', access = 'WRITE', waits = false }: RivalOptions = {},
  ): Promise<Rival> {
    const script =
      'import fcntl,os,signal,struct,sys\n' +
      'signal.signal(signal.SIGTERM,lambda *_:sys.exit())\n' +
      "file,owner,access,waits=sys.argv[1:]\nfd=os.open(file,os.O_RDWR)\nset=fcntl.F_SETLK if owner=='process' else 37\n" +
      "wait=set+1 if waits=='true' else set\n" +
      "lock=lambda kind:struct.pack('hhqqi4x',kind,0,0,1,0)\n" +
      "print('asks',flush=True)\ngot=False\n" +
      'while True:\n' +
      " try: fcntl.fcntl(fd,wait,lock(fcntl.F_RDLCK if access=='READ' else fcntl.F_WRLCK))\n" +
      ' except OSError: continue\n' +
      " if not got: print('got it',flush=True)\n" +
      ' got=True\n' +
      ' fcntl.fcntl(fd,set,lock(fcntl.F_UNLCK))\n';
    const words = ['-c', script, file, owner, access, String(waits)];
    const child = spawn('python3', words, { stdio: ['ignore', 'pipe', 'inherit'] });
    const rival = new Rival(child);
    await once(child.stdout, 'data');
    return rival;
  }

  /** Whether it got the lock. */
  async end(): Promise<boolean> {
    const closed = once(this.child, 'close');
    this.child.kill();
    await closed;
    return this.said.includes('got it');
  }
}

/** A directory of the test's own. */
export function temporaryDirectory(): { path: string; remove: () => void } {
  const directory = mkdtempSync(path.join(realpathSync(os.tmpdir()), 'virtlockd-unit-'));
  return {
    path: directory,
    remove: () => {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A directory for each test of the present `describe`. */
export function useTemporaryDirectory(): { readonly path: string } {
  let directory: ReturnType<typeof temporaryDirectory> | undefined;
  beforeEach(() => {
    directory = temporaryDirectory();
  });
  afterEach(() => {
    directory?.remove();
  });
  return {
    get path() {
      if (directory === undefined) throw new Error('outside a test');
      return directory.path;
    },
  };
}
