/**
 * Makes V8's code cache of a bundle, the same bytes in each build: code-cache.cjs DIST NAME [OFFSETS]. The pinned Node.js must run this twice, with
 * --no-rehash-snapshot. The first run writes DIST/NAME.cache.new, the second one, without OFFSETS, reads and rewrites it.
 *
 * OFFSETS, an array in JSON, says where in the wrapped bundle the functions are whose code the cache is to have. Nothing of the bundle is run
 * here: what a program runs depends on the machine and its user. V8 compiles a function without running it when a debugger asks where it could stop.
 */
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { Session } = require('node:inspector');
const { setFlagsFromString } = require('node:v8');
const vm = require('node:vm');

const [, , dist = '', name = '', offsets] = process.argv;
const output = `${dist}/${name}.cache.new`;

// As in start.cjs.
const source = `(function (exports, require, module, __filename, __dirname, LOADED) {${readFileSync(`${dist}/${name}.cjs`, 'utf8')}\n})`;

/** V8 notes the file's name in the cache, and replaces it when it loads that. So the name need not say where this was built. */
const FILENAME = `/dist/${name}.cjs`;

/**
 * Has V8 compile the functions around these offsets.
 * @param {readonly number[]} offsets
 */
function compile(offsets) {
  const session = new Session();
  session.connect();
  let scriptId = '';
  session.on('Debugger.scriptParsed', ({ params }) => {
    if (params.url.endsWith(FILENAME)) ({ scriptId } = params);
  });
  session.post('Debugger.enable');
  const script = new vm.Script(source, { filename: FILENAME });
  script.runInThisContext();
  const ends = [...source.matchAll(/\n/g)].map(({ index }) => index);
  for (const offset of offsets) {
    const lineNumber = ends.findLastIndex((end) => end < offset) + 1;
    const columnNumber = offset - ((ends[lineNumber - 1] ?? -1) + 1);
    const range = {
      start: { scriptId, lineNumber, columnNumber },
      end: { scriptId, lineNumber, columnNumber: columnNumber + 1 },
    };
    session.post('Debugger.getPossibleBreakpoints', range, (error) => {
      if (error !== null) throw error;
    });
  }
  session.post('Debugger.disable');
  session.disconnect();
  return script;
}

/** V8 numbers functions in the order in which they are compiled, and those of a cache in the order of the file when it loads that. */
function renumber() {
  const script = new vm.Script(source, { filename: FILENAME, cachedData: readFileSync(output) });
  if (script.cachedDataRejected === true) throw new Error(`V8 does not take its own code cache of ${name}`);
  return script;
}

// V8 takes a cache only with the flags that it was made with. Only the daemon starts with --no-rehash-snapshot. With that flag, the hashes
// in the file have the seed of the runtime's build, else one of this process.
if (name !== 'virtlockd') setFlagsFromString('--rehash-snapshot');
/** @type {unknown} */
const wanted = offsets === undefined ? null : JSON.parse(offsets);
const script = Array.isArray(wanted) ? compile(wanted.map(Number)) : renumber();
writeFileSync(output, script.createCachedData());
