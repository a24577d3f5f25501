/** The document of a daemon that has nothing. Apart from the others, for who writes no more than that. */
import { EMPTY_HEAD } from '../rpc/state.ts';

/** A server that nobody has connected to. */
export const EMPTY_SERVER = { ...EMPTY_HEAD, clients: [] } as const;

/** A state that holds nothing, in the form of the document. */
export const EMPTY_STATE = {
  daemon: { servers: { admin: EMPTY_SERVER, virtlockd: EMPTY_SERVER } },
  defaultLockspace: { resources: [] },
  lockspaces: [],
  magic: '1',
} as const;
