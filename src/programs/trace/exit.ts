/** The exit statuses of virtlockd-trace; see its help. */
export const Exit = {
  OK: 0,
  FILE: 1,
  USAGE: 2,
  FAILED: 3,
} as const;
export type Exit = (typeof Exit)[keyof typeof Exit];
