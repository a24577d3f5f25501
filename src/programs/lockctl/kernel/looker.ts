/**
 * Stats paths on storage that may hang, in a child, which is killed when it takes too long, and left behind where even that does not
 * end it. The caller gets what could not be found out.
 */
import type { ByteString } from '../../../../xdr/codec.ts';
import { FileState, type LockInfo } from '../../../../xdr/programs/inquire.ts';
import { runChild } from '../../../posix/child.ts';
import { bytesOf } from '../../../posix/bytes.ts';
import { Mounts } from '../../../proc/mounts.ts';
import { mayHang } from '../../../proc/route.ts';
import { type FileId, fileIdOf } from '../../../proc/descriptors.ts';

/** How long a file system may take to answer, in milliseconds. */
const LIMIT_MS = 2000;
/** For how long nobody waits again for one that has not. */
const SILENT_MS = 10_000;
/** Paths for one child. */
const BATCH = 200;

/** In place of a system's error code. */
export const NO_ANSWER = 'no answer';

/** Prints for each argument its device and inode, or an error's code: at once, for the next one may hang. */
const SCRIPT = `for (const path of process.argv.slice(1)) {
  let found;
  try {
    const { dev, ino } = require('fs').statSync(Buffer.from(path, 'base64'), { bigint: true });
    found = dev + ' ' + ino;
  } catch ({ code }) {
    found = code;
  }
  require('fs').writeSync(1, found + '\\n');
}`;

/** A file, or the code of an error. */
type Found = FileId | string;

/** When mounts, by their points, did not answer. */
const silentSince = new Map<ByteString, number>();

export class Looker {
  private readonly mounts = new Mounts();

  /** Stats the files that the daemon has left out. */
  async lookAtLocks(locks: LockInfo[]): Promise<LockInfo[]> {
    const wanted = locks.filter(({ file, firstHold }) => file === FileState.NOT_LOOKED && firstHold === 0);
    if (wanted.length === 0) return locks;
    const found = await this.lookAt(wanted.map(({ path }) => path));
    return locks.map((lock) => {
      const file = found.get(lock.path);
      return file === undefined || lock.file !== FileState.NOT_LOOKED ? lock : { ...lock, file: stateOf(lock, file) };
    });
  }

  /** The file at a path. Null: there is none, or an error. */
  async find(path: ByteString): Promise<FileId | null | typeof NO_ANSWER> {
    const found = (await this.lookAt([path])).get(path);
    if (found === NO_ANSWER) return NO_ANSWER;
    return typeof found === 'object' ? found : null;
  }

  /** Whether a path can be stat'ed without a limit. */
  async answers(path: ByteString): Promise<boolean> {
    return !mayHang(path) || (await this.find(path)) !== NO_ANSWER;
  }

  private async lookAt(paths: readonly ByteString[]): Promise<Map<ByteString, Found>> {
    const found = new Map<ByteString, Found>();
    for (let left = [...new Set(paths)]; left.length > 0;) {
      for (const path of left) if (this.isSilent(path)) found.set(path, NO_ANSWER);
      left = left.filter((path) => !found.has(path));
      const batch = left.slice(0, BATCH);
      if (batch.length === 0) break;
      const answers = await this.ask(batch);
      for (const [index, answer] of answers.entries()) found.set(batch[index] ?? '', answer);
      const hung = batch[answers.length];
      if (hung === undefined) continue;
      found.set(hung, NO_ANSWER);
      silentSince.set(this.pointOf(hung), performance.now());
    }
    return found;
  }

  /** Fewer answers than paths: the next path did not answer in time. */
  private async ask(paths: readonly ByteString[]): Promise<Found[]> {
    const words = paths.map((path) => Buffer.from(path, 'latin1').toString('base64'));
    const args = ['-e', SCRIPT, '--', ...words];
    const { output } = await runChild({ file: bytesOf(process.execPath), args, limit: LIMIT_MS });
    return output.split('\n').slice(0, -1).map(foundIn);
  }

  private isSilent(path: ByteString): boolean {
    const since = silentSince.get(this.pointOf(path));
    return since !== undefined && performance.now() < since + SILENT_MS;
  }

  private pointOf(path: ByteString): ByteString {
    return this.mounts.pointAt(path) ?? '/';
  }
}

function stateOf({ device, inode }: LockInfo, found: Found): number {
  if (typeof found === 'object')
    return found.device === device && found.inode === inode ? FileState.SAME : FileState.REPLACED;
  if (found === NO_ANSWER) return FileState.NO_ANSWER;
  return found === 'ENOENT' || found === 'ENOTDIR' ? FileState.GONE : FileState.UNREADABLE;
}

/** What a line of the script says: the file's numbers, or the code of an error. */
export function foundIn(line: string): Found {
  // Of an errno that libuv does not know (EBADFD, from a GlusterFS whose server is gone), Node's code has several words. Numbers of inodes
  // are signed there, and half of those on a GlusterFS are negative.
  const [, device, inode] = /^(-?\d+) (-?\d+)$/.exec(line) ?? [];
  if (device === undefined || inode === undefined) return line;
  return fileIdOf({ dev: BigInt(device), ino: BigInt(inode) });
}
