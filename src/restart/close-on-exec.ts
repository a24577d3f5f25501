/** FD_CLOEXEC on many descriptors: cleared just before exec, set again before anything can be spawned. */
import { logger } from '../log/log.ts';
import { requireFromRoot } from '../posix/root.ts';
import { inSlices } from '../rpc/slices.ts';

const log = logger('locking.lock_daemon');

/**
 * Node.js sets it on these, too: without them the next program would log nowhere, and a C daemon's sockets would become its streams.
 */
export const STANDARD_STREAMS = [0, 1, 2];

/** Until the next try, in milliseconds: doubled every time. */
const AGAIN_MS = 1000;
const MAX_AGAIN_MS = 600_000;

interface FsExt {
  fcntlSync(fd: number, command: 'getfd' | 'setfd', argument?: number): number;
  readonly constants: { readonly FD_CLOEXEC: number };
}

/** Only fcntl's flags are used of fs-ext: its lock would cover the whole file. Loaded at the first restart. */
let fsExt: FsExt | undefined;

/** Counts restarts: a retry for an earlier one must not interfere with the next. */
let turn = 0;

/** To be called before a restart: loads fs-ext while clients are still served. */
export function prepareCloseOnExec(): void {
  turn++;
  loadFsExt();
}

function loadFsExt(): FsExt {
  return (fsExt ??= requireFromRoot('fs-ext/fs-ext.js') as FsExt);
}

export function setCloseOnExec(descriptors: Iterable<number>, closeOnExec: boolean): void {
  const fsExt = loadFsExt();
  const flags = closeOnExec ? fsExt.constants.FD_CLOEXEC : 0;
  for (const fd of descriptors) fsExt.fcntlSync(fd, 'setfd', flags);
}

/** As {@link setCloseOnExec}, while clients are served. Descriptors that are closed by then are skipped. */
export async function setCloseOnExecInSlices(descriptors: Iterable<number>, closeOnExec: boolean): Promise<void> {
  await inSlices(descriptors, (fd) => {
    setIfOpen(fd, closeOnExec);
  });
}

export function setIfOpen(fd: number, closeOnExec: boolean): void {
  try {
    setCloseOnExec([fd], closeOnExec);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBADF') throw error;
  }
}

/**
 * Sets close-on-exec in slices, and tries again later for as long as that fails: when fs-ext has its files again, or there is memory,
 * it succeeds. Only the first failure is logged.
 */
export async function closeOnExecInTheEnd(
  descriptors: () => Iterable<number>,
  delay = AGAIN_MS,
  mine = turn,
): Promise<void> {
  try {
    // The next restart does it itself.
    await setCloseOnExecInSlices(whileTurn(mine, descriptors()), true);
  } catch (error) {
    if (delay === AGAIN_MS)
      log.error(`Descriptors stay open in what is spawned, for the time being: ${(error as Error).message}`);
    const next = Math.min(delay * 2, MAX_AGAIN_MS);
    setTimeout(() => void closeOnExecInTheEnd(descriptors, next, mine), delay).unref();
  }
}

function* whileTurn(mine: number, descriptors: Iterable<number>): Generator<number> {
  for (const fd of descriptors) {
    if (turn !== mine) return;
    yield fd;
  }
}
