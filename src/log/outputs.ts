/** Opened outputs. Writing never throws and never waits: what cannot be written is lost, as in C. */

import { constants, writeSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import type { ByteString } from '../../xdr/codec.ts';
import { LogSettingError } from './levels.ts';
import type { OutputSpec } from './output-spec.ts';
import { journalDatagram, recordText, syslogDatagram, timestamp } from './record.ts';
import type { LogRecord } from './record.ts';

/** Sends one datagram to a UNIX socket: 0 or a negative errno. */
export type SendDatagram = (path: string, data: Buffer) => number;

/** What outputs need of the world. */
export interface OutputHost {
  readonly pid: number;
  /** journald's name for us. */
  readonly identifier: string;
  /** Paths, which --root moves. */
  journalSocket: string;
  syslogSocket: string;
  sendDatagram: SendDatagram;
  /** How files are opened and closed. */
  files: OutputFiles;
  strerror(errno: number): string;
}

export interface OutputFiles {
  /** Whether it is held as a resource, so that nothing may be written into it. */
  isHeld(path: ByteString): boolean;
  /** Opens a file, made with mode 0600 if there is none: the descriptor, or a negative errno. */
  open(path: ByteString, flags: number): number;
  close(fd: number): void;
}

export interface LogOutput extends OutputSpec {
  /** Set once the two opening lines are out. */
  opened: boolean;
  write(record: LogRecord): void;
  close(): void;
}

/**
 * Opens an output.
 * @throws LogSettingError when a file cannot be opened
 */
export function openOutput(spec: OutputSpec, host: OutputHost): LogOutput {
  const nothing = (): void => undefined;
  switch (spec.destination) {
    case 'stderr':
      return { ...spec, opened: false, write: lineWriter(2, host.pid), close: nothing };
    case 'file': {
      const fd = openFile(spec.name, host);
      return {
        ...spec,
        opened: false,
        write: lineWriter(fd, host.pid),
        close: () => {
          host.files.close(fd);
        },
      };
    }
    case 'syslog': {
      const write = (record: LogRecord): void => {
        sendShrinking(host, host.syslogSocket, record, (shown) => syslogDatagram(shown, spec.name, host.pid));
      };
      return { ...spec, opened: false, write, close: nothing };
    }
    case 'journald': {
      const write = (record: LogRecord): void => {
        sendShrinking(host, host.journalSocket, record, (shown) => journalDatagram(shown, host.identifier));
      };
      return { ...spec, opened: false, write, close: nothing };
    }
  }
}

function openFile(path: ByteString, host: OutputHost): number {
  const { files } = host;
  const refuse = (errno: number, reason: string): LogSettingError =>
    new LogSettingError(`failed to open ${path}: ${reason}`, errno);
  if (files.isHeld(path)) throw refuse(osConstants.errno.EBUSY, 'it is locked, as a resource or by the daemon itself');
  // Appended to, and the daemon's own: names of guests and their disks are in it.
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

/** A message too large for one datagram is cut: C would hand journald a file instead, syslog would lose it. */
function sendShrinking(host: OutputHost, path: string, record: LogRecord, encode: (record: LogRecord) => Buffer): void {
  const status = host.sendDatagram(path, encode(record));
  if (status !== -osConstants.errno.EMSGSIZE) return;
  const text = `${record.text.slice(0, 4096)}… (${record.text.length} bytes)`.replace('…', '...');
  host.sendDatagram(path, encode({ ...record, text }));
}
