/** Who called: function and line of the code that logs, looked up only when its message is really written. */

import type { Caller } from './record.ts';

/** The function `depth` calls above the one that asks (1: its caller). */
export function callerOf(depth: number): Caller {
  const holder: { stack?: unknown } = {};
  const { stackTraceLimit } = Error;
  const before: unknown = Reflect.get(Error, 'prepareStackTrace');
  try {
    Error.stackTraceLimit = depth + 2;
    Error.prepareStackTrace = (_error, sites): unknown => sites;
    Error.captureStackTrace(holder);
    // Reading the property is what formats it.
    const site = (holder.stack as NodeJS.CallSite[])[depth + 1];
    return {
      name: site?.getFunctionName()?.split('.').at(-1) ?? 'main',
      file: site?.getFileName() ?? '',
      line: site?.getLineNumber() ?? 0,
    };
  } finally {
    Reflect.set(Error, 'prepareStackTrace', before);
    Error.stackTraceLimit = stackTraceLimit;
  }
}
