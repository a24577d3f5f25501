/** Opened outputs. Writing never throws and never waits: see spool.ts for what an output does not take. */

import { constants, fstatSync, writeSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import type { ByteString } from '../../xdr/codec.ts';
import { bytesOf } from '../posix/bytes.ts';
import { startChild, Stream } from '../posix/child.ts';
import { posix } from '../posix/posix.ts';
import { installRoot } from '../posix/root.ts';
import { mayFreeze, mayHang } from '../proc/route.ts';
import { Level, LogSettingError } from './levels.ts';
import type { OutputSpec } from './output-spec.ts';
import { journalDatagram, recordText, syslogDatagram, timestamp } from './record.ts';
import type { LogRecord } from './record.ts';
import { type Sink, Spool } from './spool.ts';

/** Writes files that may keep whoever writes them waiting: see writer.c. */
const WRITER = bytesOf(join(installRoot, 'dist', 'log-writer'));

const { EAGAIN, EBUSY, EDQUOT, EIO, EMSGSIZE, ENOBUFS, ENOENT, ENOSPC, ENXIO, EPIPE, ESTALE } = osConstants.errno;

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
  /** Others wait for this process: another one writes files of which a write may wait. */
  isServing: boolean;
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
    case 'stderr': {
      let streamWriter: LineWriter | undefined;
      // Not before there is a message: most processes have none.
      return { ...output, write: (record) => (streamWriter ??= openStream(host.pid)).write(record) };
    }
    case 'file':
      return {
        ...output,
        ...lineWriter(host.pid, mayHang(spec.name) ? elsewhere(spec.name) : openFile(spec.name, host)),
      };
    case 'syslog': {
      const encode = (record: LogRecord): Buffer => syslogDatagram(record, spec.name, host.pid);
      return { ...output, ...datagramWriter(host, 'syslogSocket', encode) };
    }
    case 'journald': {
      const encode = (record: LogRecord): Buffer => journalDatagram(record, host.identifier);
      return { ...output, ...datagramWriter(host, 'journalSocket', encode) };
    }
  }
}

type LineWriter = Pick<LogOutput, 'write' | 'close'>;

/** Returns how many bytes were written, or -errno. */
type Write = (line: Buffer) => number;

interface Target {
  readonly write: Write;
  readonly close?: () => void;
}

function openFile(path: ByteString, host: OutputHost): Target {
  const { files } = host;
  const refuse = (errno: number, reason: string): LogSettingError =>
    new LogSettingError(`failed to open ${path}: ${reason}`, errno);
  if (files.isHeld(path)) throw refuse(EBUSY, 'it is locked, as a resource or by the daemon itself');
  // C waits in the open of a FIFO until a process reads it.
  const flags = constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY;
  let fd = files.open(path, flags | constants.O_WRONLY);
  // Not before it is known to be missing: on a frozen file system that waits.
  if (fd === -ENOENT) fd = files.open(path, flags | constants.O_WRONLY | constants.O_CREAT);
  if (fd === -ENXIO) fd = files.open(path, flags | constants.O_RDWR);
  if (fd < 0) throw refuse(-fd, host.strerror(-fd));
  const close = (): void => {
    files.close(fd);
  };
  const write = writeTo(fd);
  if (!fstatSync(fd).isFile() || !mayFreeze(path)) return { write, close };
  const other = elsewhere(path);
  return {
    write: (line) => (host.isServing ? other.write(line) : write(line)),
    close: () => {
      other.close();
      close();
    },
  };
}

/** Has another process write a file, and open it. If that takes nothing, neither does the pipe to the process. */
function elsewhere(path: ByteString): Required<Target> {
  let output = -1;
  let write: Write = () => -EAGAIN;
  const start = (): void => {
    const ends = new Int32Array(2);
    if (posix.createPipe(ends) < 0) return;
    const [input = -1, ours = -1] = ends;
    const program = { file: WRITER, name: 'virtlockd-log', args: [path], environment: {}, directory: '/' };
    const pid = startChild(program, [input, Stream.NULL, Stream.NULL, Stream.NONE], () => posix.close(input));
    if (pid < 0) for (const end of ends) posix.close(end);
    else [output, write] = [ours, writeTo(ours)];
  };
  const close = (): void => {
    if (output >= 0) posix.close(output);
    output = -1;
  };
  return {
    write: (line) => {
      if (output < 0) start();
      if (output < 0) return -EAGAIN;
      const written = write(line);
      if (written !== -EPIPE) return written;
      // It was killed: the next attempt starts another one.
      close();
      return -EAGAIN;
    },
    close,
  };
}

/** Standard error: other processes may have the same open pipe or terminal, which so must go on waiting when they write. */
function openStream(pid: number): LineWriter {
  const fd = 2;
  try {
    const status = fstatSync(fd);
    if (status.isSocket()) return lineWriter(pid, { write: (line) => posix.send(fd, line, 0, line.length) });
    if (!status.isFile()) {
      const own = posix.openInode(
        `/proc/self/fd/${fd}`,
        constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
      );
      if (own >= 0) return lineWriter(pid, { write: writeTo(own) });
    }
  } catch {
    // It is closed.
  }
  return lineWriter(pid, { write: writeTo(fd) });
}

function writeTo(fd: number): Write {
  return (line) => {
    try {
      return writeSync(fd, line);
    } catch (error) {
      return -Math.abs((error as NodeJS.ErrnoException).errno ?? EIO);
    }
  };
}

/** Errors that pass: a pipe or a disk is full, storage is in trouble. */
const PASSING: ReadonlySet<number> = new Set([EAGAIN, ENOBUFS, ENOSPC, EDQUOT, EIO, ESTALE].map((errno) => -errno));

function lineWriter(pid: number, { write, close }: Target): LineWriter {
  const format = (record: LogRecord): Buffer =>
    Buffer.from(`${timestamp(record.time)}: ${recordText(record, pid)}`, 'latin1');
  return spoolInto(
    {
      put: (line) => {
        const written = write(line);
        if (written === line.length) return null;
        if (written < 0) return PASSING.has(written) ? line : 'lost';
        return line.subarray(written);
      },
      sizeOf: ({ length }) => length,
      note: (lost) => format(noteOf(lost)),
    },
    format,
    close,
  );
}

/** Cuts a message that is too large for a datagram: C would hand journald a file instead, and syslog would lose it. */
function datagramWriter(
  host: OutputHost,
  socket: 'journalSocket' | 'syslogSocket',
  encode: (record: LogRecord) => Buffer,
): LineWriter {
  let isReached = false;
  const put = (record: LogRecord): LogRecord | 'lost' | null => {
    const status = host.sendDatagram(host[socket], encode(record));
    isReached ||= status === 0;
    if (status === 0) return null;
    if (PASSING.has(status)) return record;
    // Nobody misses what was said before anybody listened.
    if (status !== -EMSGSIZE) return isReached ? 'lost' : null;
    const text = `${record.text.slice(0, 4096)}... (${record.text.length} bytes)`;
    return text.length < record.text.length ? put({ ...record, text }) : 'lost';
  };
  return spoolInto({ put, sizeOf: ({ text }) => text.length, note: noteOf }, (record) => record);
}

function noteOf(lost: number): LogRecord {
  const text = `${lost} ${lost === 1 ? 'message is' : 'messages are'} missing here: this output took none`;
  return { time: new Date(), level: Level.WARNING, source: 'util.log', text, caller: undefined };
}

function spoolInto<T>(
  sink: Sink<T>,
  format: (record: LogRecord) => T,
  close: () => unknown = () => undefined,
): LineWriter {
  const spool = new Spool(sink);
  return {
    write: (record) => {
      spool.add(format(record));
    },
    close: () => {
      spool.end();
      close();
    },
  };
}
