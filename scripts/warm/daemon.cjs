/** Replaces dist/start.cjs: runs the daemon, and records its functions in $WARM_OUTPUT when it ends. See functions.ts. */
'use strict';
require('./record.cjs')(`${__dirname}/../../dist`, 'virtlockd', process.env.WARM_OUTPUT ?? '')();
