/** The daemon's log as the admin program shows and changes it: its refusals become errors that clients get. */
import type { ByteString } from '../../xdr/codec.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { LogSettingError } from '../log/levels.ts';
import type { Logging, LogState } from '../log/logging.ts';
import { RpcError } from '../libvirt/errors.ts';
import type { AdminLogging } from './host.ts';

export class LogSettings implements AdminLogging {
  private readonly logging: Logging;
  private changed = false;

  constructor(logging: Logging) {
    this.logging = logging;
  }

  get outputs(): AdminLogging['outputs'] {
    return this.logging.outputs;
  }

  get filters(): AdminLogging['filters'] {
    return this.logging.filters;
  }

  setOutputs(text: ByteString): void {
    refusable(() => {
      this.logging.setOutputs(text);
    });
    this.changed = true;
  }

  setFilters(text: ByteString): void {
    refusable(() => {
      this.logging.setFilters(text);
    });
    this.changed = true;
  }

  /** What a restart carries over: the settings made here. Undefined while they are those of the configuration. */
  get state(): LogState | undefined {
    return this.changed ? this.logging.state : undefined;
  }

  /** The configuration was taken up again: what was set here is no more. */
  forget(): void {
    this.changed = false;
  }

  /** Takes up what a restart carried over. @throws LogSettingError, with the settings as they were. */
  restore(state: LogState): void {
    this.logging.apply(state);
    this.changed = true;
  }
}

function refusable(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof LogSettingError)) throw error;
    const { errno, message } = error;
    if (errno === 0) throw new RpcError(ErrorCode.INVALID_ARG, ErrorDomain.NONE, message);
    throw new RpcError(ErrorCode.SYSTEM_ERROR, ErrorDomain.NONE, message, errno);
  }
}
