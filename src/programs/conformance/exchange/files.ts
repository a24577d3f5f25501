/** Orders by which exchanges change files. */
import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Carries out one order below a directory:
 * `file NAME [MODE [CONTENT]]`, `dir NAME [MODE]`, `link NAME TARGET`, `hard NAME OLD`, `fifo NAME`, `device NAME`, `rm NAME`, `mv OLD NEW`.
 */
export function change(dir: string, order: string): void {
  const [verb, name = '', third, fourth = ''] = order.split(' ');
  const path = join(dir, name);
  switch (verb) {
    case 'file':
      writeFileSync(path, fourth);
      // The umask must not count.
      chmodSync(path, Number.parseInt(third ?? '640', 8));
      break;
    case 'dir':
      mkdirSync(path);
      chmodSync(path, Number.parseInt(third ?? '755', 8));
      break;
    case 'link':
      symlinkSync(third ?? '', path);
      break;
    case 'hard':
      linkSync(join(dir, third ?? ''), path);
      break;
    case 'fifo':
      execFileSync('mkfifo', ['-m', '0644', path]);
      break;
    case 'device':
      execFileSync('mknod', ['-m', '0644', path, 'c', '1', '3']);
      break;
    case 'rm':
      rmSync(path, { recursive: true });
      break;
    case 'mv':
      renameSync(path, join(dir, third ?? ''));
      break;
    default:
      throw new Error(`no such order: ${order}`);
  }
}
