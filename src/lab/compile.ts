/** C programs that tests and benchmarks need: compiled on first use. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const flags = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Wconversion', '-Werror'];

function newestIn(directory: string): number {
  return Math.max(...readdirSync(directory).map((name) => statSync(`${directory}/${name}`).mtimeMs));
}

/**
 * Makes a program of C files, unless it is there and newer than all that lies beside them: headers count as well. Their directories
 * are where headers are looked for.
 * @throws Error when the compiler fails; what it says goes to standard error
 */
export function compile(output: string, files: readonly string[]): void {
  const directories = [...new Set(files.map((file) => dirname(file)))];
  const newest = Math.max(...directories.map(newestIn));
  if (existsSync(output) && statSync(output).mtimeMs > newest) return;
  mkdirSync(dirname(output), { recursive: true });
  const include = directories.map((directory) => `-I${directory}`);
  execFileSync(process.env.CC ?? 'cc', [...flags, ...include, '-o', output, ...files], { stdio: 'inherit' });
}
