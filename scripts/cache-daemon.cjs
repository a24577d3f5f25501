/** Replaces dist/start.cjs: runs the daemon, and writes its code cache when it ends. See build.ts. */
'use strict';
// V8 takes a cache only with the flags that it was made with. A start loads it before the addon gives this flag its default again.
process.on('exit', () => {
  require('node:v8').setFlagsFromString('--no-rehash-snapshot');
});
require('./code-cache.cjs')(`${__dirname}/../dist`, 'virtlockd')();
