/** The procedures about logging. */
import type { Handlers } from '../../xdr/program.ts';
import type { adminProcedures } from '../../xdr/programs/admin.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError, UndescribedError } from '../libvirt/errors.ts';
import { LogSettingError } from '../log/levels.ts';
import type { AdminContext, AdminLogging } from './host.ts';

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
    change(logging, () => logging.setOutputs(setting ?? ''));
    return undefined;
  },

  setLogFilters({ host: { logging } }, { setting }) {
    change(logging, () => logging.setFilters(setting ?? ''));
    return undefined;
  },
};

/** Changes a setting. @throws RpcError */
function change(logging: AdminLogging, set: () => void): void {
  try {
    set();
  } catch (error) {
    if (!(error instanceof LogSettingError)) throw error;
    const { errno, message } = error;
    if (errno === 0) throw new RpcError(ErrorCode.INVALID_ARG, ErrorDomain.NONE, message);
    throw new RpcError(ErrorCode.SYSTEM_ERROR, ErrorDomain.NONE, message, errno);
  }
  logging.isChanged = true;
}
