/**
 * Runs the bundles beside it with V8's code cache, made by the build. Plain JavaScript, as it is what the pinned Node.js is
 * started with; a cache that does not fit the runtime is ignored by V8.
 */
'use strict';
const { readFileSync } = require('node:fs');
const vm = require('node:vm');

/** Runs a bundle, and returns what it exports. */
function run(name) {
  const filename = `${__dirname}/${name}.cjs`;
  let cachedData;
  try {
    cachedData = readFileSync(`${__dirname}/${name}.cache`);
  } catch {
    // Slower without, and no more.
  }
  const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
  const script = new vm.Script(wrapped, { filename, cachedData });
  const bundle = { exports: {} };
  script.runInThisContext()(bundle.exports, require, bundle, filename, __dirname);
  return bundle.exports;
}

// The build writes the names here. A bundle that has the command line for itself says so; those behind it stay unread.
['virtlockd'].some((name) => run(name).isForMe);
