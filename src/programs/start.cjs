/**
 * Runs the bundles beside it with V8's code cache, made by the build. Plain JavaScript, as it is what the pinned Node.js is
 * started with. V8 looks whether a cache was made by its own version and with its own flags, but not for which script, and not
 * whether it is whole: one that has a single bit wrong may crash the process. So a cache is used only if it and the script are
 * those of dist/build.json, and else done without.
 */
'use strict';
const { readFileSync, statSync, writeSync } = require('node:fs');
const vm = require('node:vm');

/**
 * What is loaded, for the bundle: see restart/build.ts.
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
 * Node.js' own, which is there before any module is loaded: node:zlib takes as long to load as the rest of a start.
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
 * Whether a file is the one that the build made.
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
 * The code cache of a script, or undefined when there is none that can be trusted.
 * @param {string} name
 * @param {Buffer} script
 */
function cacheOf(name, script) {
  if (!isOfBuild(`dist/${name}.cjs`, script) || build?.isForUs !== true) return undefined;
  const part = `dist/${name}.cache`;
  // Only the runtime itself can make one, so a package that another architecture has made has none.
  if (build.parts[part] === undefined) return undefined;
  try {
    const cache = readFileSync(`${root}/${part}`);
    return isOfBuild(part, cache) ? cache : undefined;
  } catch (error) {
    complain(`${part} cannot be read: ${messageOf(error)}`);
    return undefined;
  }
}

const TRIES = 100;
const AGAIN_MS = 20;

/**
 * What cannot be read for the moment is read again: a daemon that has executed this script holds locks, and dies without it.
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
  // A name that no variable of a bundle has: one declared there would be this one.
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

/** In a proof of the daemon: is everything of one build? What each file was before it was looked at, the bundle reports. */
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
  // Nothing that is in doubt is run.
  writeSync(1, `virtlockd state document check 1\n${loaded.complaints.slice(0, 3).join('; ')}\n`);
  process.exit(3);
}

/**
 * @param {string} part
 * @param {() => void} read
 */
function tryToRead(part, read) {
  try {
    read();
  } catch (error) {
    complain(`${part} of build ${loaded.id} cannot be read: ${messageOf(error)}`);
  }
}

/**
 * Differs for a file that has been replaced or written to.
 * @param {string} file
 */
function identify(file) {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
  loaded.identities[file] = [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

/**
 * The build makes a script of this for each program.
 * @param {readonly [string, ...string[]]} names bundles. One that has the command line for itself says so; those behind it stay unread.
 */
module.exports = function start(names) {
  [program] = names;
  build = readBuild();
  if (process.argv[3] === '--check-state') proveBuild();
  // The daemon cannot do without it; the others need it seldom.
  else if (isDaemon()) {
    const part = 'dist/posix.node';
    tryToRead(part, () => isOfBuild(part, readInTheEnd(`${root}/${part}`)));
  }
  names.some((name) => run(name).isForMe);
};
