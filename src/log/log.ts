/**
 * The daemon's log.
 *
 *     const log = logger('rpc.netserver');
 *     log.error(`Cannot do ${what}`);
 *     log.debug(() => `only made if it is logged: ${costly}`);
 *
 * A message below its source's level costs a comparison. Texts are byte strings, as names from the wire are.
 */

import { hostname } from 'node:os';
import { posix, strerror } from '../posix/posix.ts';
import { callerOf } from './caller.ts';
import { Level } from './levels.ts';
import { Logging } from './logging.ts';
import type { OutputFiles } from './outputs.ts';
import type { ThresholdHolder } from './logging.ts';
import type { LogRecord } from './record.ts';

/** A text, or a function that makes it when it is needed. */
export type Text = string | (() => string);

/** For a process that holds no resources. */
export const PLAIN_FILES: OutputFiles = {
  isHeld: () => false,
  open: (path, flags) => posix.openInode(path, flags),
  close: (fd) => posix.close(fd),
};

/** The log of this process. Until it is set up, it writes warnings and errors to standard error. */
export const logging = new Logging({
  host: {
    pid: process.pid,
    identifier: 'virtlockd',
    journalSocket: '/run/systemd/journal/socket',
    syslogSocket: '/dev/log',
    sendDatagram: (path, data) => posix.sendDatagram(path, data),
    files: PLAIN_FILES,
    isServing: false,
    strerror,
  },
  hostname: hostname(),
  uid: process.geteuid?.() ?? 0,
  now: () => new Date(),
});

export class Logger implements ThresholdHolder {
  readonly source: string;
  threshold: number = Level.WARNING;
  private readonly logging: Logging;

  /** @param source the name that filters match; libvirt's own where there is one, such as `rpc.netserver` */
  constructor(source: string, to: Logging = logging) {
    this.source = source;
    this.logging = to;
    to.register(this);
  }

  /** For code on the way of every call, where even the closure that makes a text costs too much. */
  get isDebugging(): boolean {
    return this.threshold <= Level.DEBUG;
  }

  debug(text: Text): void {
    if (this.threshold > Level.DEBUG) return;
    this.write(Level.DEBUG, text);
  }

  info(text: Text): void {
    if (this.threshold > Level.INFO) return;
    this.write(Level.INFO, text);
  }

  warn(text: Text): void {
    if (this.threshold > Level.WARNING) return;
    this.write(Level.WARNING, text);
  }

  /** `code`: of the RPC error, if a client gets the same text. `by`: the function that failed, if not the caller. */
  error(text: Text, code?: LogRecord['code'], by?: string): void {
    // Infinity when there are no outputs.
    if (this.threshold > Level.ERROR) return;
    this.write(Level.ERROR, text, code, by);
  }

  private write(level: Level, text: Text, code?: LogRecord['code'], by?: string): void {
    // Two calls above this one: the caller of error(), warn() and so on.
    const caller = callerOf(2);
    const from = by === undefined ? caller : { ...caller, name: by };
    this.logging.write(level, this.source, typeof text === 'string' ? text : text(), from, code);
  }
}

/** A logger of the process's log. */
export function logger(source: string): Logger {
  return new Logger(source);
}
