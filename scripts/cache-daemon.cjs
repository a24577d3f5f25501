/** Replaces dist/start.cjs: runs the daemon, and writes its code cache when it ends. See build.ts. */
'use strict';
require('./code-cache.cjs')(`${__dirname}/../dist`, 'virtlockd')();
