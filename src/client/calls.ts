/** The calls of both clients as messages. */
import { XdrWriter } from '../../xdr/codec.ts';
import { beginMessage, endMessage, MessageStatus, MessageType } from '../../xdr/frame.ts';
import type { ArgsOf, Procedure, Program, ResultOf } from '../../xdr/program.ts';
import type { Xdr } from '../../xdr/schema.ts';

/** The message of a call, and the type of its result. */
export function encodeCall<P extends object, N extends keyof P & string>(
  { number: program, version, procedures }: Program<P>,
  name: N,
  args: ArgsOf<P[N]>,
  serial: number,
): { bytes: Buffer; result: Xdr<ResultOf<P[N]>> } {
  const { number: procedure, args: type, result } = procedures[name] as Procedure<ArgsOf<P[N]>, ResultOf<P[N]>>;
  const writer = new XdrWriter(256);
  const header = { program, version, procedure, type: MessageType.CALL, serial, status: MessageStatus.OK };
  const start = beginMessage(writer, header);
  type.write(writer, args);
  endMessage(writer, start);
  return { bytes: writer.bytes(), result };
}
