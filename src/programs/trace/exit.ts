/** How virtlockd-trace ends. */

export const Exit = {
  OK: 0,
  /** A file is not what it should be. */
  FILE: 1,
  /** The command line is wrong. */
  USAGE: 2,
  /** A socket cannot be listened at, or a file not read or written. */
  FAILED: 3,
} as const;
export type Exit = (typeof Exit)[keyof typeof Exit];
