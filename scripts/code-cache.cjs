/** Makes V8's code cache of a bundle. */
'use strict';
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const vm = require('node:vm');

/**
 * Loads DIST/NAME.cjs as start.cjs does, and at the end of the process writes its code cache, with all code that V8 has
 * compiled by then. Returns a function that runs the bundle.
 * @param {string} dist
 * @param {string} name
 * @returns {() => void}
 */
module.exports = function load(dist, name) {
  const filename = `${dist}/${name}.cjs`;
  const wrapped = `(function (exports, require, module, __filename, __dirname, LOADED) {${readFileSync(filename, 'utf8')}\n})`;
  const script = new vm.Script(wrapped, { filename });
  process.on('exit', () => {
    writeFileSync(`${dist}/${name}.cache.new`, script.createCachedData());
    renameSync(`${dist}/${name}.cache.new`, `${dist}/${name}.cache`);
  });
  return () => {
    /** @type {unknown} */
    const run = script.runInThisContext();
    /** @type {(...scope: unknown[]) => void} */ (run)({}, require, module, filename, dist, null);
  };
};
