/**
 * make-code-cache.cjs DIST NAME COMMAND...: makes the code cache of DIST/NAME.cjs by running it on every command (arguments
 * with blanks between them), so that what it needs has been compiled. Run by the pinned Node.js.
 */
'use strict';
const [node = '', , dist = '', name = '', ...commands] = process.argv;
const run = require('./code-cache.cjs')(dist, name);
for (const command of commands) {
  process.argv = [node, `${dist}/start.cjs`, ...command.split(' ')];
  run();
}
