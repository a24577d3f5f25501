/** The native parts of an installation, and how each is compiled. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { compile, compileModule, staticIfPossible } from './compile.js';

/**
 * @typedef {object} NativePart
 * @property {string} file its path below the installation's root: a program, or with an ending a module that Node.js loads
 * @property {readonly string[]} sources
 * @property {readonly string[]} headers
 * @property {readonly string[]} options
 * @property {boolean} isPackaged it is a part of the Debian package too
 */

/**
 * @param {string} root the installation's root
 * @returns {NativePart[]}
 */
export function nativeParts(root) {
  const below = (/** @type {string} */ file) => path.join(root, file);
  const posix = below('src/posix');
  const files = fs.readdirSync(posix).map((file) => path.join(posix, file));
  const headers = files.filter((file) => file.endsWith('.h'));
  const launch = below('src/posix/launch.c');
  const guard = below('src/posix/guard.c');
  const addon = files.filter((file) => file.endsWith('.c') && file !== launch && file !== guard);
  const fsExt = path.dirname(createRequire(below('package.json')).resolve('fs-ext/package.json'));
  const nan = path.dirname(createRequire(path.join(fsExt, 'package.json')).resolve('nan/package.json'));
  const storageHeaders = ['messages.h', 'notes.h', 'proof.h'].map((file) => below(`src/storage/${file}`));
  const usual = { headers, options: [], isPackaged: true };
  return [
    {
      ...usual,
      file: path.relative(root, path.join(fsExt, 'build/Release/fs_ext.node')),
      sources: [path.join(fsExt, 'fs-ext.cc')],
      options: [`-I${nan}`],
    },
    { ...usual, file: 'dist/posix.node', sources: addon },
    // Starts the daemon's runtime, and preloads guard into it.
    { ...usual, file: 'dist/launch', sources: [launch] },
    { ...usual, file: 'dist/guard.so', sources: [guard], options: ['-fvisibility=hidden'] },
    // virtlockd-storage.
    {
      ...usual,
      file: 'dist/storage',
      sources: [below('src/storage/helper.c')],
      headers: [...storageHeaders, ...headers],
      options: [`-I${posix}`],
    },
    // virtlockd-guard.
    {
      ...usual,
      file: 'dist/etcd-guard',
      sources: [below('src/etcd/guard.c')],
      headers: [below('src/etcd/guard.h'), ...headers],
      options: [`-I${posix}`],
    },
    // virtlockd-log.
    { ...usual, file: 'dist/log-writer', sources: [below('src/log/writer.c')], options: [`-I${posix}`] },
    { ...usual, file: 'dist/relay.node', sources: [below('src/programs/trace/relay.c')] },
    { ...usual, file: 'dist/client.node', sources: [below('src/programs/fuzz/client.c')], isPackaged: false },
  ];
}

/** @param {readonly string[]} options */
const includesOf = (options) => options.filter((option) => option.startsWith('-I')).map((option) => option.slice(2));

/**
 * @param {NativePart} part
 * @param {string} output
 * @param {string} nodeHeaders the directory with the headers of Node.js
 * @param {{ c: string, cxx: string }} [crossCompilers] which have a static libc
 * @throws {BuildError}
 */
export function compilePart({ file, sources, options: own }, output, nodeHeaders, crossCompilers) {
  const compilers = crossCompilers === undefined ? {} : { compilers: crossCompilers };
  const { name, ext } = path.parse(file);
  // What is compiled says where its source is, by __FILE__ for one. Each build is to give the same bytes, wherever it is done.
  const directories = new Set([...sources.map((source) => path.dirname(source)), nodeHeaders, ...includesOf(own)]);
  const options = [...own, ...[...directories].map((directory) => `-ffile-prefix-map=${directory}=.`)];
  if (ext !== '') compileModule({ name, sources, output, headers: nodeHeaders, options, ...compilers });
  else {
    const linking = crossCompilers === undefined ? staticIfPossible() : ['-static'];
    compile({ sources, output, options: [...options, ...linking], ...compilers });
  }
}
