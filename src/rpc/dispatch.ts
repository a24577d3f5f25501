/**
 * One message in, its reply out: finds the program and procedure, checks what the description says, calls the handler
 * and writes what it returned or threw. Pure but for the handlers: no sockets here.
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
/** C logs every error that it reports, from this source. */
const errors = logger('util.error');

/** How a service speaks: the version it claims and what follows from it. */
export interface Speech {
  readonly version: VersionNumber;
  readonly dialect: Dialect;
}

/** A procedure tied to the function that implements it. */
interface Bound<C> {
  readonly procedure: Procedure<unknown, unknown>;
  readonly handler: (context: C, args: unknown) => unknown;
}

/** A program that can be dispatched to, for connections of type `C`. */
export interface Service<C> {
  readonly number: number;
  readonly version: number;
  /** The arguments of a call were decoded: where C finds out who a client is. */
  readonly identify: (context: C) => void;
  /** The domain of errors that dispatch itself finds in the arguments. */
  readonly domain: ErrorDomain;
  readonly procedures: ReadonlyMap<number, Bound<C>>;
}

/** Ties a program's description to its handlers, leaving out the procedures that `version` does not know. */
export function bindService<P extends object, C>(
  program: Program<P>,
  domain: ErrorDomain,
  handlers: Handlers<P, C>,
  version: VersionNumber,
  identify: (context: C) => void = () => undefined,
): Service<C> {
  const procedures = new Map<number, Bound<C>>();
  for (const name of Object.keys(program.procedures) as (keyof P)[]) {
    const procedure = program.procedures[name] as Procedure<unknown, unknown>;
    if ((procedure.since ?? 0) > version) continue;
    procedures.set(procedure.number, { procedure, handler: handlers[name] as Bound<C>['handler'] });
  }
  return { number: program.number, version: program.version, domain, procedures, identify };
}

/** Who handles the present call; null until it has got as far as the handler's checks. */
let handler: Bound<never>['handler'] | null = null;

const header: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };

/**
 * Serves the message in `reader` (from its length word to its end), appending replies to `out`. A message that gets no
 * reply appends nothing. The header is kept in one place for all: a handler never sees it. Returns what the call waits for, if
 * its answer comes later.
 */
export function dispatch<C>(
  services: readonly Service<C>[],
  speech: Speech,
  context: C,
  reader: XdrReader,
  out: XdrWriter,
): Waiting | null {
  reader.offset += LENGTH_SIZE;
  readHeader(reader, header);
  const { program, version, type } = header;

  // A keepalive event is for the transport, whatever else is wrong; as a CALL it is a program like any other.
  if (program === KEEPALIVE_PROGRAM && version === KEEPALIVE_VERSION && type === MessageType.MESSAGE) {
    if (header.procedure === KeepaliveProcedure.PING) writePong(out);
    return null;
  }

  let service: Service<C> | undefined;
  for (const candidate of services) {
    if (candidate.number === program && candidate.version === version) service = candidate;
  }
  // The count of descriptors, which the connection has dealt with.
  const carried = type === MessageType.CALL_WITH_FDS ? reader.u32() : 0;
  if (type !== MessageType.CALL && type !== MessageType.CALL_WITH_FDS) return null;

  const start = out.length;
  try {
    call(service, context, reader, out);
  } catch (error) {
    if (error instanceof Waiting) return error;
    // What a result that cannot be written has left behind.
    out.length = start;
    replyError(out, speech, error);
    // To a call that reached no handler, C sends the data bytes of its descriptors back behind the error.
    if (handler === null) {
      const end = out.length + carried;
      out.opaque(Buffer.alloc(carried));
      out.length = end;
    }
  }
  return null;
}

function call<C>(service: Service<C> | undefined, context: C, reader: XdrReader, out: XdrWriter): void {
  handler = null;
  // C prints both as signed numbers.
  if (service === undefined) {
    throw dispatchError(`Cannot find program ${header.program | 0} version ${header.version | 0}`);
  }
  if (header.status !== MessageStatus.OK) throw dispatchError(`Unexpected message status ${header.status >>> 0}`);
  const bound = service.procedures.get(header.procedure);
  if (bound === undefined) throw dispatchError(`unknown procedure: ${header.procedure}`);
  const { procedure } = bound;

  let args: unknown;
  try {
    args = procedure.args.read(reader);
  } catch (error) {
    if (!(error instanceof XdrError)) throw error;
    throw dispatchError('Unable to decode message payload');
  }
  handler = bound.handler;
  service.identify(context);
  if (procedure.flags !== undefined && procedure.flags.late === undefined) {
    checkFlags(service.domain, procedure.flags, (args as { flags: number }).flags);
  }

  const { procedure: number, serial } = header;
  const result = bound.handler(context, args);
  const start = beginReply(out, number, serial, MessageStatus.OK, service.number, service.version);
  procedure.result.write(out, result);
  endMessage(out, start);
}

function beginReply(
  out: XdrWriter,
  procedure: number,
  serial: number,
  status: number,
  program: number,
  version: number,
): number {
  return beginMessage(out, { program, version, procedure, type: MessageType.REPLY, serial, status });
}

function replyError(out: XdrWriter, speech: Speech, error: unknown): void {
  if (error instanceof RpcError) {
    // As C names the function that reports it, which is the one that was called, and none of those that log.
    errors.error(error.message, { domain: error.domain, code: error.code }, handler?.name ?? 'dispatch');
  } else {
    // A defect of ours: the client gets an answer all the same, and the log where it came from.
    log.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  const reply =
    error instanceof RpcError
      ? error
      : new RpcError(ErrorCode.INTERNAL_ERROR, 0, 'unexpected failure, see the log of the daemon');
  const { program, version, procedure, serial } = header;
  const start = beginReply(out, procedure, serial, MessageStatus.ERROR, program, version);
  remoteError.write(out, reply.toRemote(speech.dialect));
  endMessage(out, start);
}

/** The answer to a ping: serial 0 and no payload, whatever the ping carried. */
function writePong(out: XdrWriter): void {
  endMessage(
    out,
    beginMessage(out, {
      program: KEEPALIVE_PROGRAM,
      version: KEEPALIVE_VERSION,
      procedure: KeepaliveProcedure.PONG,
      type: MessageType.MESSAGE,
      serial: 0,
      status: MessageStatus.OK,
    }),
  );
}
