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

/** Another process that tries to lock byte 0 of a file for writing, over and over, until it is ended. */
export class Rival {
  private readonly child: ChildProcess;
  private said = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on('data', (data: Buffer) => (this.said += data.toString()));
  }

  static async at(file: string): Promise<Rival> {
    const script =
      'import fcntl,struct,sys,os,select\n' +
      "fd=os.open(sys.argv[1],os.O_RDWR)\nlock=struct.pack('hhqqi4x',fcntl.F_WRLCK,0,0,1,0)\nfirst=True\n" +
      'while not select.select([0],[],[],0)[0]:\n' +
      ' for i in range(1000):\n' +
      '  try:\n   fcntl.fcntl(fd,fcntl.F_SETLK,lock)\n   print("got it",flush=True)\n   sys.exit()\n' +
      '  except OSError: pass\n' +
      ' if first: print("never",flush=True)\n' +
      ' first=False\n';
    const child = spawn('python3', ['-c', script, file], { stdio: ['pipe', 'pipe', 'inherit'] });
    const rival = new Rival(child);
    await once(child.stdout, 'data');
    return rival;
  }

  /** `never`, or its other output. */
  async end(): Promise<string> {
    const closed = once(this.child, 'close');
    this.child.stdin?.end();
    await closed;
    return this.said.trim();
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
