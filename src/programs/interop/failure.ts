/** The description of a check that threw. */
import { AssertionError } from 'node:assert/strict';
import { inspect } from 'node:util';
import type { Check } from './model.ts';

const show = (value: unknown): string[] =>
  (typeof value === 'string' ? value : inspect(value, { breakLength: 100, depth: 5 })).split('\n');

/** Expected and seen values of an assertion, or the message of another error. */
export function failure(error: unknown): Pick<Check, 'verdict' | 'expected' | 'seen' | 'detail'> {
  if (!(error instanceof AssertionError)) {
    return { verdict: 'fail', detail: error instanceof Error ? error.message : String(error) };
  }
  const { actual, expected, generatedMessage, message } = error;
  return {
    verdict: 'fail',
    expected: show(expected),
    seen: show(actual),
    ...(generatedMessage ? {} : { detail: message }),
  };
}
