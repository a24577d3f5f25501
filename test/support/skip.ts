/** Skips a test where the machine lacks something: see src/lab/requirements.ts. */

/** The first reason that applies, or undefined: `before(function () { skipIf(this, missingDaemon('9.0.0'), …) })`. */
export function skipIf(context: Mocha.Context, ...reasons: readonly (string | undefined)[]): void {
  const reason = reasons.find((r) => r !== undefined);
  if (reason === undefined) return;
  if (context.test !== undefined) context.test.title += ` [skipped: ${reason}]`;
  context.skip();
}
