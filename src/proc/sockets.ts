/** Bound UNIX sockets, from /proc/PID/net/unix, which lists those of the process's network namespace. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import { socketsOf } from './descriptors.ts';
import type { Process } from './processes.ts';

interface UnixSocket {
  readonly inode: string;
  /** As given to bind, with a leading `@` if abstract. Accepted connections have their listener's. */
  readonly path: ByteString;
  readonly isListening: boolean;
}

/** The flag of a listening socket (__SO_ACCEPTCON). */
const LISTENING = 0x10000;
const ROW = /^[0-9a-fA-F]+: [0-9a-fA-F]+ [0-9a-fA-F]+ ([0-9a-fA-F]+) [0-9a-fA-F]+ [0-9a-fA-F]+ +(\d+) (.+)$/gm;

export function parseUnixSockets(text: string): UnixSocket[] {
  return Array.from(text.matchAll(ROW), ([, flags = '', inode = '', path = '']) => ({
    inode,
    path,
    isListening: (parseInt(flags, 16) & LISTENING) !== 0,
  }));
}

/** The listening ones of the process's network namespace. */
export function listeningSockets(pid: Process): UnixSocket[] {
  return parseUnixSockets(readFileSync(`/proc/${pid}/net/unix`, 'latin1')).filter(({ isListening }) => isListening);
}

/** Paths of the UNIX sockets at which a process listens. */
export function listensAt(pid: Process): ByteString[] {
  const own = socketsOf(pid);
  return listeningSockets(pid).flatMap(({ inode, path }) => (own.has(inode) ? [path] : []));
}
