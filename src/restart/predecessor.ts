/** Reads the state left by the previous program image of this process. */
import type { ByteString } from '../../xdr/codec.ts';
import { EXIT, StartupError } from '../libvirt/exit.ts';
import { logger } from '../log/log.ts';
import { awaitAdoption } from '../lockspace/files.ts';
import { insist } from '../posix/insist.ts';
import { inodeKey, lastStat, posix } from '../posix/posix.ts';
import { isEpoll } from '../proc/descriptors.ts';
import type { StateDocument } from './document.ts';
import { epollOf, magicOf, parseDocument, parseProvenJson } from './parse.ts';
import { strangenessOf } from './provenance.ts';
import { readStateFile, removeStateFile, StateFileError } from './state-file.ts';

const log = logger('locking.lock_daemon');

export interface Predecessor {
  readonly document: StateDocument;
  /**
   * Lock clients by descriptor, unread, that can be adopted one by one, as their sockets hang on an inherited epoll. Null when all were
   * read.
   */
  readonly late: Map<number, unknown> | null;
  /** It was another process, which has died. */
  readonly hasDied?: boolean;
}

/** Tries again: without the state every lock is lost. */
function readInTheEnd(stateFile: ByteString): Buffer | null {
  return insist(
    () => readStateFile(stateFile),
    (error) => !(error instanceof StateFileError) || error.isPassing,
  );
}

/**
 * Null at a fresh start.
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
 * Returns a test whether an inode key is of a resource in the document. Our own document has the keys, with quotes inside of strings
 * escaped, and may be too large to be read whole while clients wait. A C document has none, so the descriptors are stat'ed.
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
