/** Compiles the C programs of tests and benchmarks on first use. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const flags = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Wconversion', '-Werror'];

function newestIn(directory: string): number {
  return Math.max(...readdirSync(directory).map((name) => statSync(`${directory}/${name}`).mtimeMs));
}

/**
 * Compiles C files into a program, unless it is newer than every file in their directories, where their headers are too.
 * @param options more words for the compiler
 * @param compiler one for another architecture
 * @throws Error when the compiler fails; its messages go to standard error
 */
export function compile(
  output: string,
  files: readonly string[],
  options: readonly string[] = [],
  compiler = process.env.CC ?? 'cc',
): void {
  const directories = [...new Set(files.map((file) => dirname(file)))];
  const newest = Math.max(...directories.map(newestIn));
  if (existsSync(output) && statSync(output).mtimeMs > newest) return;
  mkdirSync(dirname(output), { recursive: true });
  const include = directories.map((directory) => `-I${directory}`);
  execFileSync(compiler, [...flags, ...options, ...include, '-o', output, ...files], {
    stdio: 'inherit',
  });
}
