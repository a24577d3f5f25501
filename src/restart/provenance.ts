/**
 * Whether a state document was left by this very process before it executed this program. Its magic does not tell: in a
 * container every daemon has the same pid, and a document may outlive the process that wrote it. The owners that a strange one
 * names are strangers, none of whom may be ended.
 */
import { FileType, lookedKey, posix, SocketKind } from '../posix/posix.ts';
import { bootId, startTimeOf } from '../proc/processes.ts';
import type { ProcessState, ServerState, StateDocument } from './document.ts';

/** What is written into a document, for {@link isOfThisProcess}. Undefined where /proc does not tell. */
export function ownProcess(): ProcessState | undefined {
  const start = startTimeOf(process.pid);
  return typeof start === 'number' ? { start, boot: bootId() } : undefined;
}

/**
 * Returns why the document is not of this process, or null when it is.
 *
 * @param late descriptors of clients that are not in the document
 * @param isActivated systemd has just started this process: nothing passes that on when it executes another program
 */
export function strangenessOf(document: StateDocument, late: Iterable<number>, isActivated: boolean): string | null {
  const written = document.own?.process;
  const present = written === undefined ? undefined : ownProcess();
  if (written !== undefined && present !== undefined) {
    return written.start === present.start && written.boot === present.boot ? null : 'an earlier process had this pid';
  }
  if (isActivated) return 'this process has just been started by systemd';
  return strangeDescriptor(document, late);
}

/**
 * A C daemon writes no more than the pid. But what it has left is open, and in no other process would all of these descriptors
 * be what the document says. A descriptor of -1, as 7.0.0 writes for what it has closed, says nothing.
 */
function strangeDescriptor(document: StateDocument, late: Iterable<number>): string | null {
  for (const { services, clients } of serversOf(document)) {
    for (const { fd } of services.flatMap(({ socks }) => socks)) {
      if (fd >= 0 && !isListener(fd)) return `descriptor ${fd} is no listening socket`;
    }
    for (const { sock } of clients) if (sock.fd >= 0 && !isConnection(sock.fd)) return notConnected(sock.fd);
  }
  for (const fd of late) if (!isConnection(fd)) return notConnected(fd);
  for (const { resources } of document.lockspaces) {
    for (const { fd, name, 'x-inode': key } of resources) {
      if (!isFile(fd, key)) return `descriptor ${fd} is not the file of resource '${name}'`;
    }
  }
  return null;
}

function serversOf({ lockServer, adminServer }: StateDocument): ServerState[] {
  return adminServer === null ? [lockServer] : [lockServer, adminServer];
}

function notConnected(fd: number): string {
  return `descriptor ${fd} is no connection`;
}

function isListener(fd: number): boolean {
  return posix.inspectSocket(fd, peer) === SocketKind.LISTENING && posix.socketPath(fd) !== null;
}

function isConnection(fd: number): boolean {
  return posix.inspectSocket(fd, peer) === SocketKind.CONNECTED;
}

/** @param key of the inode that the document says it is; a C daemon writes none */
function isFile(fd: number, key: string | undefined): boolean {
  if (posix.fstatInode(fd) !== 0) return false;
  const type = (posix.looked[3] ?? 0) & FileType.MASK;
  return (type === FileType.REGULAR || type === FileType.BLOCK) && (key === undefined || lookedKey() === key);
}

const peer = new Int32Array(3);
