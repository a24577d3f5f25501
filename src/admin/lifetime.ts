/** The procedures about the session, and about the life of the daemon. */
import type { Handlers } from '../../xdr/program.ts';
import type { adminProcedures } from '../../xdr/programs/admin.ts';
import type { AdminContext } from './host.ts';

export const lifetimeHandlers: Pick<
  Handlers<typeof adminProcedures, AdminContext>,
  'open' | 'close' | 'getLibVersion' | 'setTimeout' | 'shutdown'
> = {
  open() {
    return undefined;
  },

  close({ connection }) {
    connection.closeAfterReply();
    return undefined;
  },

  getLibVersion({ host: { dialect } }) {
    return { version: BigInt(dialect.version) };
  },

  setTimeout({ host }, { seconds }) {
    host.setTimeout(seconds);
    return undefined;
  },

  // ShutdownFlag.PRESERVE changes nothing, as in C.
  shutdown({ connection, host }) {
    // C leaves its event loop before the reply is sent, so a caller only ever sees the connection end.
    connection.close();
    host.requestEnd();
    return undefined;
  },
};
