/** In the place of dist/start.cjs: the daemon, whose code cache is written when it ends. See build.ts. */
'use strict';
require('./code-cache.cjs')(`${__dirname}/../dist`, 'virtlockd')();
