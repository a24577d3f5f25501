/**
 * Runs the bundle beside it with V8's code cache, made by the build. Plain JavaScript, as it is what the pinned Node.js is
 * started with; a cache that does not fit the runtime is ignored by V8.
 */
'use strict';
const { readFileSync } = require('node:fs');
const vm = require('node:vm');

const filename = `${__dirname}/virtlockd.cjs`;
let cachedData;
try {
  cachedData = readFileSync(`${__dirname}/virtlockd.cache`);
} catch {
  // Slower without, and no more.
}
const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
const script = new vm.Script(wrapped, { filename, cachedData });
script.runInThisContext()(exports, require, module, filename, __dirname);
