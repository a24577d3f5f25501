/**
 * Makes the code cache of DIST/virtlockd.cjs: loads it as start.cjs does, lets it print its version so that what a start
 * needs has been compiled, and writes down what V8 has by then. Run by the pinned Node.js.
 */
'use strict';
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const vm = require('node:vm');

const dist = process.argv[2];
const filename = `${dist}/virtlockd.cjs`;
const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
const script = new vm.Script(wrapped, { filename });
process.on('exit', () => {
  writeFileSync(`${dist}/virtlockd.cache.new`, script.createCachedData());
  renameSync(`${dist}/virtlockd.cache.new`, `${dist}/virtlockd.cache`);
});
process.argv = [process.argv[0], `${dist}/start.cjs`, 'virtlockd', '--version'];
script.runInThisContext()(exports, require, module, filename, dist);
