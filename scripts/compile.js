/**
 * Compiles native code for Node.js, by calling the compiler itself: node-gyp's makefiles cannot be below a path with a blank, and need
 * make and Python.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const C = ['-std=c11', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror=implicit-function-declaration'];
const CXX = ['-std=gnu++20', '-fno-rtti', '-fno-exceptions', '-fno-strict-aliasing', '-w'];
const COMMON = ['-O3', '-fno-omit-frame-pointer', '-fPIC', '-pthread', '-D_FILE_OFFSET_BITS=64'];

/** The program for a language, which an environment variable may name with options: `CC='ccache gcc'`. */
const COMPILERS = { c: process.env.CC ?? 'cc', cxx: process.env.CXX ?? 'c++' };

/** Says what to do about it; the compiler has already printed why. */
export class BuildError extends Error {}

/**
 * @typedef {object} Compilation
 * @property {readonly string[]} sources of one language
 * @property {string} output renamed into place: a running daemon may have mapped the file that is there
 * @property {readonly string[]} [options]
 * @property {{ c: string, cxx: string }} [compilers]
 */

/**
 * Compiles a program.
 * @param {Compilation} compilation
 * @throws {BuildError}
 */
export function compile({ sources, output, options = [], compilers = COMPILERS }) {
  const language = sources.some((source) => source.endsWith('.cc')) ? 'cxx' : 'c';
  const [compiler = '', ...words] = compilers[language].split(/\s+/);
  fs.mkdirSync(path.dirname(output), { recursive: true });
  const fresh = `${output}.new`;
  const flags = [...COMMON, ...(language === 'c' ? C : CXX), ...options];
  const { error, status, signal } = spawnSync(compiler, [...words, ...flags, ...sources, '-o', fresh], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (error !== undefined) {
    throw new BuildError(`cannot run ${compiler}: ${error.message}; a C and a C++ compiler are needed (gcc and g++)`);
  }
  if (status !== 0) {
    throw new BuildError(`${compiler} ended with ${signal ?? `status ${status}`} for ${sources.join(' ')}: see above`);
  }
  fs.renameSync(fresh, output);
}

/**
 * Compiles a module that Node.js loads.
 * @param {Compilation & { name: string, headers: string }} module its name, and the directory with the headers of Node.js
 * @throws {BuildError}
 */
export function compileModule({ name, headers, options = [], ...compilation }) {
  const building = ['-shared', '-DBUILDING_NODE_EXTENSION', `-DNODE_GYP_MODULE_NAME=${name}`, `-I${headers}`];
  compile({ ...compilation, options: [...building, ...options] });
}

/**
 * Static where a static libc is installed: a start is half a millisecond shorter, and the program runs with any libc. Else stripped.
 * @returns {string[]}
 */
export function staticIfPossible() {
  const [compiler = '', ...words] = COMPILERS.c.split(/\s+/);
  const options = [...words, '-static', '-x', 'c', '-o', '/dev/null', '-'];
  const { status } = spawnSync(compiler, options, {
    input: 'int main(void) { return 0; }',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  return [status === 0 ? '-static' : '-s'];
}
