import type { Caller } from './record.ts';

/**
 * The function that is `depth` calls above the one that calls this (1: its caller). It costs a stack trace, so only a message that
 * is really written asks for it.
 */
export function callerOf(depth: number): Caller {
  const holder: { stack?: unknown } = {};
  const { stackTraceLimit } = Error;
  const before: unknown = Reflect.get(Error, 'prepareStackTrace');
  try {
    Error.stackTraceLimit = depth + 2;
    Error.prepareStackTrace = (_error, sites): unknown => sites;
    Error.captureStackTrace(holder);
    // To read the property formats it.
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
