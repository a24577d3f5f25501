/**
 * Runs the bundles beside it with V8's code cache, made by the build. Plain JavaScript, as it is what the pinned Node.js is
 * started with. V8 looks whether a cache was made by its own version and with its own flags, but not for which script, and not
 * whether it is whole: one that has a single bit wrong may crash the process. So a cache is used only if it and the script are
 * those of dist/build.json, and else done without.
 */
'use strict';
const { readFileSync, statSync, writeSync } = require('node:fs');
const vm = require('node:vm');

// The build writes the names here. A bundle that has the command line for itself says so; those behind it stay unread.
const names = ['virtlockd'];

/** What is loaded, for the bundle: see restart/build.ts. */
const loaded = { id: null, complaints: [], identities: {} };
const root = `${__dirname}/..`;
const build = readBuild();

function complain(text) {
  loaded.complaints.push(text);
  // The daemon has a log for it.
  if (names[0] !== 'virtlockd') process.stderr.write(`${names[0]}: ${text}\n`);
}

function readBuild() {
  try {
    const { id, runtime, parts } = JSON.parse(readFileSync(`${__dirname}/build.json`, 'utf8'));
    const ours = `${process.version} ${process.arch}`;
    if (runtime !== ours) complain(`build ${id} is for Node.js ${runtime}, and this is ${ours}`);
    loaded.id = id;
    return { isForUs: runtime === ours, parts: { ...parts } };
  } catch (error) {
    complain(`dist/build.json cannot be read: ${error.message}`);
    return null;
  }
}

/** Node.js' own, which is there before any module is loaded: node:zlib takes as long to load as the rest of a start. */
function crc32(bytes) {
  try {
    return process.binding('zlib').crc32(bytes, 0);
  } catch {
    return require('node:zlib').crc32(bytes);
  }
}

/** Whether a file is the one that the build made. */
function isOfBuild(part, bytes) {
  if (build === null) return false;
  if (build.parts[part] === `${bytes.length}:${crc32(bytes).toString(16)}`) return true;
  complain(`${part} is not of build ${loaded.id}`);
  return false;
}

/** The code cache of a script, or undefined when there is none that can be trusted. */
function cacheOf(name, script) {
  if (!isOfBuild(`dist/${name}.cjs`, script) || !build.isForUs) return undefined;
  const part = `dist/${name}.cache`;
  // Only the runtime itself can make one, so a package that another architecture has made has none.
  if (build.parts[part] === undefined) return undefined;
  try {
    const cache = readFileSync(`${root}/${part}`);
    return isOfBuild(part, cache) ? cache : undefined;
  } catch (error) {
    complain(`${part} cannot be read: ${error.message}`);
    return undefined;
  }
}

const TRIES = 100;
const AGAIN_MS = 20;

/** What cannot be read for the moment is read again: a daemon that has executed this script holds locks, and dies without it. */
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

/** Runs a bundle, and returns what it exports. */
function run(name) {
  const filename = `${__dirname}/${name}.cjs`;
  const source = readInTheEnd(filename);
  const cachedData = cacheOf(name, source);
  // A name that no variable of a bundle has: one declared there would be this one.
  const wrapped = `(function (exports, require, module, __filename, __dirname, LOADED) {${source.toString()}\n})`;
  const script = new vm.Script(wrapped, { filename, cachedData });
  if (script.cachedDataRejected === true) complain(`Node.js ${process.version} does not take dist/${name}.cache`);
  const bundle = { exports: {} };
  script.runInThisContext()(bundle.exports, require, bundle, filename, __dirname, loaded);
  return bundle.exports;
}

/** In a proof of the daemon: is everything of one build? What each file was before it was looked at, the bundle reports. */
function proveBuild() {
  const parts = Object.keys(build?.parts ?? {});
  for (const file of [process.execPath, process.argv[1]]) tryToRead(file, () => identify(file));
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

function tryToRead(part, read) {
  try {
    read();
  } catch (error) {
    complain(`${part} of build ${loaded.id} cannot be read: ${error.message}`);
  }
}

/** Differs for a file that has been replaced or written to. */
function identify(file) {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
  loaded.identities[file] = [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

if (process.argv[3] === '--check-state') proveBuild();
// The daemon cannot do without it; the others need it seldom.
else if (names[0] === 'virtlockd') {
  const part = 'dist/posix.node';
  tryToRead(part, () => isOfBuild(part, readInTheEnd(`${root}/${part}`)));
}
names.some((name) => run(name).isForMe);
