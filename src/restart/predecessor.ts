/** What the program that this process was before left to this one. */
import type { ByteString } from '../../xdr/codec.ts';
import { EXIT, StartupError } from '../libvirt/exit.ts';
import { logger } from '../log/log.ts';
import { awaitAdoption } from '../lockspace/files.ts';
import { insist } from '../posix/insist.ts';
import { inodeKey, lastStat, posix } from '../posix/posix.ts';
import { isEpoll } from '../rpc/poller.ts';
import type { StateDocument } from './document.ts';
import { epollOf, magicOf, parseDocument, parseProvenJson } from './parse.ts';
import { strangenessOf } from './provenance.ts';
import { readStateFile, removeStateFile, StateFileError } from './state-file.ts';

const log = logger('locking.lock_daemon');

export interface Predecessor {
  readonly document: StateDocument;
  /**
   * Lock clients by descriptor that were not read, because their sockets hang on an epoll that was left as well: then they
   * can be taken over one by one. Null when all were read.
   */
  readonly late: Map<number, unknown> | null;
  /** It was another process, which has died. */
  readonly hasDied?: boolean;
}

/** Without the state every lock is lost. */
function readInTheEnd(stateFile: ByteString): Buffer | null {
  return insist(
    () => readStateFile(stateFile),
    (error) => !(error instanceof StateFileError) || error.isPassing,
  );
}

/**
 * Null when there is none, as at a fresh start.
 *
 * @param isActivated systemd has just started this process
 * @throws StartupError
 */
export function readPredecessor(stateFile: ByteString, isActivated: boolean): Predecessor | null {
  let bytes: Buffer | null;
  let json: unknown;
  try {
    bytes = readInTheEnd(stateFile);
    if (bytes === null) return null;
    removeStateFile(stateFile);
    json = parseProvenJson(bytes);
    if (magicOf(json) !== String(process.pid)) {
      log.warn(`Found restart state of process ${magicOf(json) ?? '?'} in ${stateFile}: not this one's, removed`);
      return null;
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    log.warn(`Ignoring restart state: ${error.message}`);
    if (!(error instanceof StateFileError)) removeStateFile(stateFile);
    return null;
  }
  const epoll = epollOf(json);
  const late = epoll !== null && isEpoll(epoll) ? new Map<number, unknown>() : null;
  let document: StateDocument;
  try {
    document = parseDocument(json, late);
  } catch (error) {
    throw new StartupError(EXIT.initialize, `Unable to restore the state: ${(error as Error).message}`);
  }
  const strangeness = strangenessOf(document, late?.keys() ?? [], isActivated);
  if (strangeness !== null) {
    log.warn(
      `Found restart state of another process with the pid of this one in ${stateFile}: ${strangeness}; removed`,
    );
    return null;
  }
  awaitAdoption(heldIn(document, bytes));
  return { document, late };
}

/**
 * Tells whether a resource of the document is the inode with a key. Ours has the key of each, and may be too large to be read whole
 * while clients wait; quotes inside of strings are escaped in it. C's has none: there the descriptors tell them.
 */
function heldIn({ lockspaces, own }: StateDocument, bytes: Buffer): (key: string) => boolean {
  if (own?.process !== undefined) return (key) => bytes.includes(`"x-inode":${JSON.stringify(key)}`, 0, 'latin1');
  const keys = new Set<string>();
  for (const { resources } of lockspaces) {
    for (const { fd, 'x-inode': key } of resources) {
      if (key !== undefined) keys.add(key);
      else if (posix.fstatInode(fd) === 0) keys.add(inodeKey(lastStat()));
    }
  }
  return (key) => keys.has(key);
}
