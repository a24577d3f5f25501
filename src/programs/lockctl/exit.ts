/** How virt-lockctl ends. */

export const Exit = {
  OK: 0,
  /** What was asked for failed, or is not so: no lock found, a check with findings, a refused change. */
  NO: 1,
  /** The command line is wrong. */
  USAGE: 2,
  /** No daemon answers. */
  DOWN: 3,
  /** The daemon does not know the inquire program: it is the C one, or an older one of ours. */
  UNSUPPORTED: 4,
  /** This user may not. */
  DENIED: 5,
} as const;
export type Exit = (typeof Exit)[keyof typeof Exit];

/** Ends a command with a message for standard error. */
export class CommandError extends Error {
  override name = 'CommandError';
  readonly exit: Exit;

  constructor(exit: Exit, message: string) {
    super(message);
    this.exit = exit;
  }
}
