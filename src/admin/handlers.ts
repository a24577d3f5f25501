/** The admin program: a function for each of its procedures. */
import type { Handlers } from '../../xdr/program.ts';
import type { adminProcedures } from '../../xdr/programs/admin.ts';
import { clientHandlers } from './clients.ts';
import type { AdminContext } from './host.ts';
import { lifetimeHandlers } from './lifetime.ts';
import { limitHandlers } from './limits.ts';
import { loggingHandlers } from './logging.ts';
import { serverHandlers } from './servers.ts';

export const adminHandlers: Handlers<typeof adminProcedures, AdminContext> = {
  ...lifetimeHandlers,
  ...serverHandlers,
  ...clientHandlers,
  ...limitHandlers,
  ...loggingHandlers,
};
