/**
 * make-code-cache.cjs DIST NAME COMMAND...: makes the code cache of DIST/NAME.cjs by running every command (arguments separated
 * by blanks). The pinned Node.js must run this.
 */
'use strict';
const [node = '', , dist = '', name = '', ...commands] = process.argv;
const run = require('./code-cache.cjs')(dist, name);
for (const command of commands) {
  process.argv = [node, `${dist}/start.cjs`, ...command.split(' ')];
  run();
}
