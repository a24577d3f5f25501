/** The procedures about logging. */
import type { Handlers } from '../../xdr/program.ts';
import type { adminProcedures } from '../../xdr/programs/admin.ts';
import { UndescribedError } from '../libvirt/errors.ts';
import type { AdminContext } from './host.ts';

export const loggingHandlers: Pick<
  Handlers<typeof adminProcedures, AdminContext>,
  'getLogOutputs' | 'getLogFilters' | 'setLogOutputs' | 'setLogFilters'
> = {
  getLogOutputs({ host: { logging } }) {
    const { text, count } = logging.outputs;
    // Blanks alone remove all outputs, and C then stumbles over there being none.
    if (count === 0) throw new UndescribedError();
    return { outputs: text, count };
  },

  getLogFilters({ host: { logging } }) {
    const { text, count } = logging.filters;
    return { filters: count === 0 ? null : text, count };
  },

  setLogOutputs({ host: { logging } }, { setting }) {
    logging.setOutputs(setting ?? '');
    return undefined;
  },

  setLogFilters({ host: { logging } }, { setting }) {
    logging.setFilters(setting ?? '');
    return undefined;
  },
};
