/** Opened outputs. Writing never throws and never waits: as in C, a message that cannot be written is lost. */

import { constants, writeSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { LogSettingError } from './levels.ts';
import type { OutputSpec } from './output-spec.ts';
import { journalDatagram, recordText, syslogDatagram, timestamp } from './record.ts';
import type { LogRecord } from './record.ts';

export interface OutputHost {
  readonly pid: number;
  /** journald's name for the daemon. */
  readonly identifier: string;
  /** Paths, which --root moves. */
  journalSocket: string;
  syslogSocket: string;
  /** Sends one datagram to a UNIX socket: 0 or a negative errno. */
  sendDatagram(path: string, data: Buffer): number;
  files: OutputFiles;
  strerror(errno: number): string;
}

export interface OutputFiles {
  /** Whether a file is held as a resource, and so may not be opened. */
  isHeld(path: ByteString): boolean;
  /** Opens a file, or makes it with mode 0600. Returns the descriptor, or a negative errno. */
  open(path: ByteString, flags: number): number;
  close(fd: number): void;
}

export interface LogOutput extends OutputSpec {
  /** Set once the two opening lines are written. */
  opened: boolean;
  write(record: LogRecord): void;
  close(): void;
}

/** @throws LogSettingError when a file cannot be opened */
export function openOutput(spec: OutputSpec, host: OutputHost): LogOutput {
  const output = { ...spec, opened: false, close: (): void => undefined };
  switch (spec.destination) {
    case 'stderr':
      return { ...output, write: lineWriter(2, host.pid) };
    case 'file': {
      const fd = openFile(spec.name, host);
      const close = (): void => host.files.close(fd);
      return { ...output, write: lineWriter(fd, host.pid), close };
    }
    case 'syslog': {
      const encode = (record: LogRecord): Buffer => syslogDatagram(record, spec.name, host.pid);
      return { ...output, write: datagramWriter(host, 'syslogSocket', encode) };
    }
    case 'journald': {
      const encode = (record: LogRecord): Buffer => journalDatagram(record, host.identifier);
      return { ...output, write: datagramWriter(host, 'journalSocket', encode) };
    }
  }
}

function openFile(path: ByteString, host: OutputHost): number {
  const { files } = host;
  const refuse = (errno: number, reason: string): LogSettingError =>
    new LogSettingError(`failed to open ${path}: ${reason}`, errno);
  if (files.isHeld(path)) throw refuse(osConstants.errno.EBUSY, 'it is locked, as a resource or by the daemon itself');
  const fd = files.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND);
  if (fd < 0) throw refuse(-fd, host.strerror(-fd));
  return fd;
}

function lineWriter(fd: number, pid: number): LogOutput['write'] {
  return (record) => {
    const line = Buffer.from(`${timestamp(record.time)}: ${recordText(record, pid)}`, 'latin1');
    try {
      let written = 0;
      while (written < line.length) written += writeSync(fd, line, written);
    } catch {
      // A full disk or a closed terminal must not end the daemon.
    }
  };
}

/** Cuts a message that is too large for a datagram: C would hand journald a file instead, and syslog would lose it. */
function datagramWriter(
  host: OutputHost,
  socket: 'journalSocket' | 'syslogSocket',
  encode: (record: LogRecord) => Buffer,
): LogOutput['write'] {
  return (record) => {
    const status = host.sendDatagram(host[socket], encode(record));
    if (status !== -osConstants.errno.EMSGSIZE) return;
    const text = `${record.text.slice(0, 4096)}... (${record.text.length} bytes)`;
    host.sendDatagram(host[socket], encode({ ...record, text }));
  };
}
