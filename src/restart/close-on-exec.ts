/** FD_CLOEXEC on many descriptors: cleared just before exec, set again before anything can be spawned. */
import { requireFromRoot } from '../posix/root.ts';
import { inSlices } from './slices.ts';

/**
 * Node.js marks these too: without them the next program logs nowhere, and a C one's sockets become its streams.
 */
export const STANDARD_STREAMS = [0, 1, 2];

interface FsExt {
  fcntlSync(fd: number, command: 'getfd' | 'setfd', argument?: number): number;
  readonly constants: { readonly FD_CLOEXEC: number };
}

/** Of fs-ext only this is sound: its lock covers the whole file. Loaded when first needed, which is at a restart. */
let fsExt: FsExt | undefined;

/** Loads what {@link setCloseOnExec} needs: beforehand, where every millisecond after is waited for. */
export function prepareCloseOnExec(): FsExt {
  return (fsExt ??= requireFromRoot('fs-ext') as FsExt);
}

export function setCloseOnExec(descriptors: Iterable<number>, closeOnExec: boolean): void {
  const fsExt = prepareCloseOnExec();
  const flags = closeOnExec ? fsExt.constants.FD_CLOEXEC : 0;
  for (const fd of descriptors) fsExt.fcntlSync(fd, 'setfd', flags);
}

/** As {@link setCloseOnExec}, while clients are served. What is closed meanwhile is passed over. */
export async function setCloseOnExecInSlices(descriptors: Iterable<number>, closeOnExec: boolean): Promise<void> {
  await inSlices(descriptors, (fd) => {
    try {
      setCloseOnExec([fd], closeOnExec);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBADF') throw error;
    }
  });
}
