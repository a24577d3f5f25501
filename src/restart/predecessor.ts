/** What the program that this process was before left to this one. */
import type { ByteString } from '../../xdr/codec.ts';
import { EXIT, StartupError } from '../daemon/exit.ts';
import { logger } from '../daemon/log/log.ts';
import { poller } from '../rpc/poller.ts';
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
}

/**
 * Null when there is none, as at a fresh start.
 *
 * @param isActivated systemd has just started this process
 * @throws StartupError
 */
export function readPredecessor(stateFile: ByteString, isActivated: boolean): Predecessor | null {
  let json: unknown;
  try {
    const bytes = readStateFile(stateFile);
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
  const late = epoll !== null && poller.isEpoll(epoll) ? new Map<number, unknown>() : null;
  let document: StateDocument;
  try {
    document = parseDocument(json, late);
  } catch (error) {
    throw new StartupError(EXIT.initialize, `Unable to restore the state: ${(error as Error).message}`);
  }
  const strangeness = strangenessOf(document, late?.keys() ?? [], isActivated);
  if (strangeness === null) return { document, late };
  log.warn(`Found restart state of another process with the pid of this one in ${stateFile}: ${strangeness}; removed`);
  return null;
}
