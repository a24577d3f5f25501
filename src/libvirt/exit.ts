/** Exit codes, and the texts that `-d` prints for them, both the C daemon's. */

export const EXIT = {
  ok: 0,
  pidFile: 1,
  options: 1,
  config: 1,
  runDirectory: 2,
  initialize: 3,
  signals: 4,
  network: 6,
  reexec: 9,
} as const;

const TEXTS: ReadonlyMap<number, string> = new Map([
  [0, 'Initialization successful'],
  [1, 'Unable to obtain pidfile'],
  [2, 'Unable to create rundir'],
  [3, 'Unable to initialize libvirt'],
  [4, 'Unable to setup signal handlers'],
  [6, 'Unable to initialize network sockets'],
  [9, 'Unable to re-execute daemon'],
]);

/** Ends the start of the daemon. */
export class StartupError extends Error {
  override name = 'StartupError';
  readonly exitCode: number;

  /** @param message one line, without newline */
  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The text behind `<argv0>: error: ` that the parent of a daemonized start prints. */
export function exitText(code: number): string {
  return TEXTS.get(code) ?? `Unknown error ${code}`;
}
