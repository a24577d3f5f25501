import { nameOf } from '../../proc/processes.ts';
import type { Peer, Stamp } from './events.ts';
import { relay } from './relay.ts';

export const NOBODY: Peer = { pid: -1, uid: -1, gid: -1, program: '' };

/** The name of a process, as in ps; empty if there is no process with that pid. */
export function programOf(pid: number): string {
  try {
    return Buffer.from(nameOf(pid), 'latin1').toString().trimEnd();
  } catch {
    return '';
  }
}

/** The process that connected to a socket. */
export function peerOf(fd: number): Peer {
  const out = new Int32Array(3);
  relay().peerOf(fd, out);
  const [pid = -1, uid = -1, gid = -1] = out;
  return { pid, uid: uid >>> 0, gid: gid >>> 0, program: programOf(pid) };
}

export function now(): Stamp {
  return { micros: Math.floor((performance.timeOrigin + performance.now()) * 1000), isAbsolute: true };
}
