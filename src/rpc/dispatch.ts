/**
 * One message in, its reply out: finds the program and the procedure, checks the call against their description, calls the handler
 * and writes its result or its error. No sockets here.
 */
import { type XdrReader, type XdrWriter, XdrError } from '../../xdr/codec.ts';
import { ErrorCode, type ErrorDomain, remoteError } from '../../xdr/error.ts';
import {
  beginMessage,
  endMessage,
  type Header,
  LENGTH_SIZE,
  MessageStatus,
  MessageType,
  readHeader,
} from '../../xdr/frame.ts';
import type { Handlers, Procedure, Program } from '../../xdr/program.ts';
import { KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, KeepaliveProcedure } from '../../xdr/programs/keepalive.ts';
import { logger } from '../log/log.ts';
import type { Dialect, VersionNumber } from '../libvirt/dialect.ts';
import { checkFlags, dispatchError, RpcError } from '../libvirt/errors.ts';
import { Waiting } from './waiting.ts';

const log = logger('rpc.netserverprogram');
/** C logs every error of a reply from this source. */
const errors = logger('util.error');

/** A procedure tied to the function that implements it. */
interface BoundProcedure<C> {
  /** As the log names it: `lock.register`. */
  readonly name: string;
  readonly procedure: Procedure<unknown, unknown>;
  readonly handler: (context: C, args: unknown) => unknown;
}

/** A program tied to its handlers, for connections with a context `C`. */
export interface BoundProgram<C> {
  readonly number: number;
  readonly version: number;
  /** The domain of errors that dispatch itself finds in the arguments. */
  readonly domain: ErrorDomain;
  readonly procedures: ReadonlyMap<number, BoundProcedure<C>>;
}

/** Ties a program's description to its handlers, without the procedures that `version` does not know. */
export function bindProgram<P extends object, C>(
  program: Program<P>,
  domain: ErrorDomain,
  handlers: Handlers<P, C>,
  version: VersionNumber,
): BoundProgram<C> {
  const procedures = new Map<number, BoundProcedure<C>>();
  for (const name of Object.keys(program.procedures) as (keyof P)[]) {
    const procedure = program.procedures[name] as Procedure<unknown, unknown>;
    if ((procedure.since ?? 0) > version) continue;
    procedures.set(procedure.number, {
      name: `${program.name}.${String(name)}`,
      procedure,
      handler: handlers[name] as BoundProcedure<C>['handler'],
    });
  }
  return { number: program.number, version: program.version, domain, procedures };
}

/** The connection that a call came on. */
export interface Caller<C> {
  readonly id: number;
  readonly peer: { readonly pid: number };
  readonly context: C;
  /** Set once the arguments of a call were decoded: from then on the admin program reports the peer's identity, as C does. */
  isIdentified: boolean;
}

/** Dispatches to the programs of one server. Calls do not nest, so the state of the present one is kept here. */
export class Dispatcher<C> {
  private readonly programs: readonly BoundProgram<C>[];
  private readonly dialect: Dialect;
  /** Of the present message. */
  private readonly header: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };
  /** The called procedure; null until its arguments are decoded. */
  private bound: BoundProcedure<C> | null = null;

  constructor(programs: readonly BoundProgram<C>[], dialect: Dialect) {
    this.programs = programs;
    this.dialect = dialect;
  }

  /**
   * Serves the message in `reader` (from its length word to its end), and appends the reply, if it gets one, to `out`. Returns what
   * the call waits for, if its answer comes later.
   */
  dispatch(caller: Caller<C>, reader: XdrReader, out: XdrWriter): Waiting | null {
    const { header } = this;
    reader.offset += LENGTH_SIZE;
    readHeader(reader, header);
    const { program, version, type } = header;

    // The transport takes keepalive events, whatever else is wrong with them; a CALL is one of a program like any other.
    if (program === KEEPALIVE_PROGRAM && version === KEEPALIVE_VERSION && type === MessageType.MESSAGE) {
      if (header.procedure === KeepaliveProcedure.PING) {
        // No payload, whatever the ping carried.
        const pong = { ...header, procedure: KeepaliveProcedure.PONG, serial: 0, status: MessageStatus.OK };
        endMessage(out, beginMessage(out, pong));
      }
      return null;
    }

    const called = this.programs.find((candidate) => candidate.number === program && candidate.version === version);
    // The count of descriptors, which the connection has handled.
    const carried = type === MessageType.CALL_WITH_FDS ? reader.u32() : 0;
    if (type !== MessageType.CALL && type !== MessageType.CALL_WITH_FDS) return null;

    try {
      this.call(called, caller, reader, out);
    } catch (error) {
      if (error instanceof Waiting) {
        this.logOutcome(caller, 'waits');
        return error;
      }
      this.replyError(out, error);
      this.logOutcome(caller, 'fails', error);
      // When a call reaches no handler, C sends the data bytes of its descriptors back behind the error.
      if (this.bound === null) {
        const end = out.length + carried;
        out.opaque(Buffer.alloc(carried));
        out.length = end;
      }
    }
    return null;
  }

  private call(program: BoundProgram<C> | undefined, caller: Caller<C>, reader: XdrReader, out: XdrWriter): void {
    const { header } = this;
    this.bound = null;
    // C prints both as signed numbers.
    if (program === undefined) {
      throw dispatchError(`Cannot find program ${header.program | 0} version ${header.version | 0}`);
    }
    if (header.status !== MessageStatus.OK) throw dispatchError(`Unexpected message status ${header.status >>> 0}`);
    const bound = program.procedures.get(header.procedure);
    if (bound === undefined) throw dispatchError(`unknown procedure: ${header.procedure}`);
    const { procedure } = bound;

    let args: unknown;
    try {
      args = procedure.args.read(reader);
    } catch (error) {
      if (!(error instanceof XdrError)) throw error;
      throw dispatchError('Unable to decode message payload');
    }
    this.bound = bound;
    caller.isIdentified = true;
    if (log.isDebugging) log.debug(`${nameOf(caller)} calls ${bound.name}: ${format(args)}`);
    if (procedure.flags !== undefined && procedure.flags.late === undefined) {
      checkFlags(program.domain, procedure.flags, (args as { flags: number }).flags);
    }

    const result = bound.handler(caller.context, args);
    const start = this.beginReply(out, MessageStatus.OK);
    try {
      procedure.result.write(out, result);
      endMessage(out, start);
      this.logOutcome(caller, 'returns', result);
    } catch (error) {
      // Drops the part of the result that was written, and no more: the handler may have sent the replies before it.
      out.length = start;
      throw error;
    }
  }

  private logOutcome(caller: Caller<C>, verb: string, value?: unknown): void {
    if (!log.isDebugging) return;
    const name = this.bound?.name ?? `procedure ${this.header.procedure} of program ${this.header.program}`;
    const detail = value instanceof Error ? value.message : format(value);
    log.debug(`${name} of ${nameOf(caller)} ${verb}${value === undefined ? '' : `: ${detail}`}`);
  }

  private replyError(out: XdrWriter, error: unknown): void {
    if (error instanceof RpcError) {
      // C names the function that reports the error: the procedure's.
      errors.error(error.message, { domain: error.domain, code: error.code }, this.bound?.handler.name ?? 'dispatch');
    } else {
      // A defect of ours: the client gets an answer all the same, and the log gets the stack.
      log.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    const reply =
      error instanceof RpcError
        ? error
        : new RpcError(ErrorCode.INTERNAL_ERROR, 0, 'unexpected failure, see the log of the daemon');
    const start = this.beginReply(out, MessageStatus.ERROR);
    remoteError.write(out, reply.toRemote(this.dialect));
    endMessage(out, start);
  }

  private beginReply(out: XdrWriter, status: number): number {
    return beginMessage(out, { ...this.header, type: MessageType.REPLY, status });
  }
}

function nameOf({ id, peer }: Caller<unknown>): string {
  return `client ${id} (pid ${peer.pid})`;
}

/** In one line of bounded length: names may have 64 KiB. */
function format(value: unknown): string {
  const { inspect } = process.getBuiltinModule('node:util');
  return inspect(value, { depth: 5, breakLength: Infinity, compact: true, maxArrayLength: 20, maxStringLength: 200 });
}
