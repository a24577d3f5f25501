/**
 * Runs the bundles beside it with the code caches of the build. The first file that Node.js executes, so it is plain JavaScript. V8
 * checks that a cache was made by its own version and flags, but neither for which script, nor whether it is whole, and one wrong
 * bit may crash the process. So this uses a cache only if it and its script are those of dist/build.json.
 */
'use strict';
const { readFileSync, statSync, writeSync } = require('node:fs');
const vm = require('node:vm');

/**
 * The loaded build, for the bundle: see restart/build.ts.
 * @type {{ id: string | null, complaints: string[], identities: Record<string, string> }}
 */
const loaded = { id: null, complaints: [], identities: {} };
const root = `${__dirname}/..`;
/** The program's first bundle. */
let program = '';
/** @type {{ isForUs: boolean, parts: Record<string, string | undefined> } | null} */
let build = null;

const isDaemon = () => program === 'virtlockd';

/** @param {string} text */
function complain(text) {
  loaded.complaints.push(text);
  // The daemon has a log for it.
  if (!isDaemon()) process.stderr.write(`${program}: ${text}\n`);
}

/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error));

function readBuild() {
  try {
    const made = /** @type {unknown} */ (JSON.parse(readFileSync(`${__dirname}/build.json`, 'utf8')));
    const { id, runtime, parts } = /** @type {{ id: string, runtime: string, parts: Record<string, string> }} */ (made);
    const ours = `${process.version} ${process.arch}`;
    if (runtime !== ours) complain(`build ${id} is for Node.js ${runtime}, and this is ${ours}`);
    loaded.id = id;
    return { isForUs: runtime === ours, parts: { ...parts } };
  } catch (error) {
    complain(`dist/build.json cannot be read: ${messageOf(error)}`);
    return null;
  }
}

/**
 * By Node's internal binding: node:zlib takes as long to load as the rest of a start.
 * @param {Buffer} bytes
 * @returns {number}
 */
function crc32(bytes) {
  try {
    const internals = /** @type {{ binding: (name: string) => Pick<import('node:zlib'), 'crc32'> }} */ (
      /** @type {unknown} */ (process)
    );
    return internals.binding('zlib').crc32(bytes, 0);
  } catch {
    return require('node:zlib').crc32(bytes);
  }
}

/**
 * Complains about a file that the build has not made.
 * @param {string} part
 * @param {Buffer} bytes
 */
function isOfBuild(part, bytes) {
  if (build === null) return false;
  if (build.parts[part] === `${bytes.length}:${crc32(bytes).toString(16)}`) return true;
  complain(`${part} is not of build ${loaded.id}`);
  return false;
}

/**
 * The code cache of a script, or undefined if there is none to trust.
 * @param {string} name
 * @param {Buffer} script
 */
function cacheOf(name, script) {
  if (!isOfBuild(`dist/${name}.cjs`, script) || build?.isForUs !== true) return undefined;
  const part = `dist/${name}.cache`;
  // Only the runtime itself can make one, so a package built on another architecture has none.
  if (build.parts[part] === undefined) return undefined;
  const cache = tryToRead(part, () => readFileSync(`${root}/${part}`));
  return cache !== undefined && isOfBuild(part, cache) ? cache : undefined;
}

const TRIES = 100;
const AGAIN_MS = 20;

/**
 * Repeats reading when it fails: without the file, a daemon that has re-executed itself would die with its locks.
 * @param {string} filename
 */
function readInTheEnd(filename) {
  for (let tries = 1; ; tries++) {
    try {
      return readFileSync(filename);
    } catch (error) {
      if (tries === TRIES) throw error;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, AGAIN_MS);
  }
}

/**
 * Runs a bundle, and returns what it exports.
 * @param {string} name
 * @returns {{ isForMe?: boolean }}
 */
function run(name) {
  const filename = `${__dirname}/${name}.cjs`;
  const source = readInTheEnd(filename);
  const cachedData = cacheOf(name, source);
  // LOADED must be a name that no bundle declares.
  const wrapped = `(function (exports, require, module, __filename, __dirname, LOADED) {${source.toString()}\n})`;
  const script = new vm.Script(wrapped, { filename, cachedData });
  if (script.cachedDataRejected === true) complain(`Node.js ${process.version} does not take dist/${name}.cache`);
  const bundle = { exports: {} };
  /** @type {unknown} */
  const runBundle = script.runInThisContext();
  /** @type {(...scope: unknown[]) => void} */ (runBundle)(
    bundle.exports,
    require,
    bundle,
    filename,
    __dirname,
    loaded,
  );
  return bundle.exports;
}

/** For the proof of the daemon: ends the process unless all files are of one build. The bundle reports their identities. */
function proveBuild() {
  const parts = Object.keys(build?.parts ?? {});
  const [, script = ''] = process.argv;
  for (const file of [process.execPath, script]) {
    tryToRead(file, () => {
      identify(file);
    });
  }
  for (const part of parts) {
    tryToRead(part, () => {
      identify(`${root}/${part}`);
      isOfBuild(part, readFileSync(`${root}/${part}`));
    });
  }
  if (loaded.complaints.length === 0) return;
  writeSync(1, `virtlockd state document check 1\n${loaded.complaints.slice(0, 3).join('; ')}\n`);
  process.exit(3);
}

/**
 * @template T
 * @param {string} part
 * @param {() => T} read
 */
function tryToRead(part, read) {
  try {
    return read();
  } catch (error) {
    complain(`${part} of build ${loaded.id} cannot be read: ${messageOf(error)}`);
    return undefined;
  }
}

/**
 * Notes an identity, which changes when a file is replaced or written to.
 * @param {string} file
 */
function identify(file) {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
  loaded.identities[file] = [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

/**
 * The build makes a script for each program, which calls this.
 * @param {readonly [string, ...string[]]} names bundles, run in order up to the one that takes the command line for its own
 */
module.exports = function start(names) {
  [program] = names;
  build = readBuild();
  if (process.argv[3] === '--check-state') proveBuild();
  // Only the daemon always needs the addon.
  else if (isDaemon()) {
    const part = 'dist/posix.node';
    tryToRead(part, () => isOfBuild(part, readInTheEnd(`${root}/${part}`)));
  }
  names.some((name) => run(name).isForMe);
};
