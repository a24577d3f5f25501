/** The poller of the tests: a process can have one that polls. */
import { Poller } from '../../../src/rpc/poller.ts';

export const poller = new Poller();
