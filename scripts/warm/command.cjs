/**
 * command.cjs DIST NAME OUTPUT WORD...: records the functions of DIST/NAME.cjs that run with this command. The pinned Node.js must run
 * this.
 */
'use strict';
const [node = '', , dist = '', name = '', output = '', ...words] = process.argv;
process.argv = [node, `${dist}/start.cjs`, ...words];
require('./record.cjs')(dist, name, output)();
