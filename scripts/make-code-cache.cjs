/**
 * make-code-cache.cjs DIST NAME [ARGUMENT...]: makes the code cache of DIST/NAME.cjs. Loads it as start.cjs does, runs it on
 * the arguments so that what a start needs has been compiled, and writes down what V8 has by then. Run by the pinned Node.js.
 * Without arguments they are those of warm-up-daemon.cjs.
 */
'use strict';
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const vm = require('node:vm');

const [, , dist, name, ...args] = process.argv;
const filename = `${dist}/${name}.cjs`;
const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
const script = new vm.Script(wrapped, { filename });
process.on('exit', () => {
  writeFileSync(`${dist}/${name}.cache.new`, script.createCachedData());
  renameSync(`${dist}/${name}.cache.new`, `${dist}/${name}.cache`);
});
const words = args.length > 0 ? args : require('./warm-up-daemon.cjs')();
process.argv = [process.argv[0], `${dist}/start.cjs`, ...words];
script.runInThisContext()(exports, require, module, filename, dist);
