/**
 * Whether this very process wrote a state document before it executed this program. The magic does not prove that: in a container every
 * daemon has the same pid, and a document may outlive the process that wrote it. The owners in another process's document are strangers,
 * and must not be killed.
 */
import { constants } from 'node:os';
import { FileType, inodeKey, lastStat, posix, SocketKind } from '../posix/posix.ts';
import { ownProcess } from '../daemon/state.ts';
import type { AdminClientState, LockClientState, ServerState, StateDocument } from './document.ts';

const { EBADF, ENOTSOCK } = constants.errno;

/**
 * Returns why the document is not of this process, or null when it is.
 *
 * @param late descriptors of clients that are not in the document
 * @param isActivated systemd has just started this process; an executed program does not inherit that
 */
export function strangenessOf(document: StateDocument, late: Iterable<number>, isActivated: boolean): string | null {
  const written = document.own?.process;
  const present = written === undefined ? undefined : ownProcess();
  if (written !== undefined && present !== undefined) {
    const isOther =
      written.start !== present.start || (isBoth(written.boot, present.boot) && written.boot !== present.boot);
    if (isOther) return 'an earlier process had this pid';
    if (isBoth(written.boot, present.boot)) return null;
  }
  if (isActivated) return 'this process has just been started by systemd';
  return strangeDescriptor(document, late);
}

function isBoth(one: string, other: string): boolean {
  return one !== '' && other !== '';
}

/**
 * A C daemon writes its pid only. But all descriptors that it names are open, and in no other process would each be what the document
 * says. A descriptor of -1, which 7.0.0 writes for one that it has closed, proves nothing.
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
      // -1 stands for one that was lost before, and proves nothing either.
      if (fd >= 0 && !isFile(fd, key)) return `descriptor ${fd} is not the file of resource '${name}'`;
    }
  }
  return null;
}

function serversOf({ lockServer, adminServer }: StateDocument): ServerState<LockClientState | AdminClientState>[] {
  return adminServer === null ? [lockServer] : [lockServer, adminServer];
}

function notConnected(fd: number): string {
  return `descriptor ${fd} is no connection`;
}

/** An error such as a lack of memory is no evidence. */
function isUnknown(status: number): boolean {
  return status < 0 && status !== -EBADF && status !== -ENOTSOCK;
}

function isListener(fd: number): boolean {
  const kind = posix.inspectSocket(fd, peer);
  return isUnknown(kind) || (kind === SocketKind.LISTENING && posix.socketPath(fd) !== null);
}

function isConnection(fd: number): boolean {
  const kind = posix.inspectSocket(fd, peer);
  return isUnknown(kind) || kind === SocketKind.CONNECTED;
}

/** @param key the inode key in the document; a C daemon writes none */
function isFile(fd: number, key: string | undefined): boolean {
  const status = posix.fstatInode(fd);
  if (status !== 0) return isUnknown(status);
  const stat = lastStat();
  return LOCKABLE.includes(stat.type) && (key === undefined || inodeKey(stat) === key);
}

const peer = new Int32Array(3);

/** Types of a resource's file. The runtime itself has none of these open but standard streams, which no document names. */
const LOCKABLE: readonly number[] = [FileType.REGULAR, FileType.BLOCK, FileType.CHARACTER];
