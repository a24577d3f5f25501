/** The exit statuses of virt-lockctl. */

export const Exit = {
  OK: 0,
  /** Not found, refused or failed, or a check has findings. */
  NO: 1,
  USAGE: 2,
  DOWN: 3,
  /** The daemon does not have the inquire program: it is libvirt's, or an older release of ours. */
  UNSUPPORTED: 4,
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
