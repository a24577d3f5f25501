/**
 * make-code-cache.cjs DIST NAME [COMMAND...]: makes the code cache of DIST/NAME.cjs. Loads it as start.cjs does, runs it on
 * every command (arguments with blanks between them) so that what a start needs has been compiled, and writes down what V8
 * has by then. Run by the pinned Node.js. Without commands there is one, that of warm-up-daemon.cjs.
 */
'use strict';
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const vm = require('node:vm');

const [, , dist, name, ...commands] = process.argv;
const filename = `${dist}/${name}.cjs`;
const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
const script = new vm.Script(wrapped, { filename });
process.on('exit', () => {
  writeFileSync(`${dist}/${name}.cache.new`, script.createCachedData());
  renameSync(`${dist}/${name}.cache.new`, `${dist}/${name}.cache`);
});
const runs = commands.length > 0 ? commands.map((command) => command.split(' ')) : [require('./warm-up-daemon.cjs')()];
for (const words of runs) {
  process.argv = [process.argv[0], `${dist}/start.cjs`, ...words];
  script.runInThisContext()(exports, require, module, filename, dist);
}
