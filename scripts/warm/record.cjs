/** Records which functions of a bundle run. */
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { Session } = require('node:inspector');
const vm = require('node:vm');

/**
 * Loads DIST/NAME.cjs as start.cjs does, and at the end of the process writes START:END, their offsets in
 * the wrapped bundle, of each function that ran to OUTPUT, one a line.
 * Returns a function that runs the bundle.
 * @param {string} dist
 * @param {string} name
 * @param {string} output
 * @returns {() => void}
 */
module.exports = function load(dist, name, output) {
  const filename = `${dist}/${name}.cjs`;
  const wrapped = `(function (exports, require, module, __filename, __dirname, LOADED) {${readFileSync(filename, 'utf8')}\n})`;
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: false });
  const script = new vm.Script(wrapped, { filename });
  process.on('exit', () => {
    session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error;
      const functions = result.filter(({ url }) => url.endsWith(`/${name}.cjs`)).flatMap((found) => found.functions);
      const ran = functions.filter(({ ranges }) => ranges[0] !== undefined && ranges[0].count > 0);
      writeFileSync(output, ran.map(({ ranges: [range] }) => `${range?.startOffset}:${range?.endOffset}\n`).join(''));
    });
  });
  return () => {
    /** @type {unknown} */
    const run = script.runInThisContext();
    /** @type {(...scope: unknown[]) => void} */ (run)({}, require, module, filename, dist, null);
  };
};
