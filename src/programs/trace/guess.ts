/** Whether bytes belong to a lock daemon's connection: for files that hold others, too, or begin in the middle. */
import { KEEPALIVE_PROGRAM } from '../../../xdr/programs/keepalive.ts';
import { isLengthValid, LENGTH_SIZE, MessageType } from '../../../xdr/frame.ts';
import { otherSide, type Side } from './events.ts';
import { isKnownProgram } from './programs.ts';

/**
 * Whether a message of a known program begins here: its length and its program are looked at. Keepalive does not count, as
 * libvirtd's own clients speak it, too.
 */
export function beginsMessage(bytes: Buffer): boolean {
  if (bytes.length < 8 || !isLengthValid(bytes.readUInt32BE(0))) return false;
  const program = bytes.readUInt32BE(LENGTH_SIZE);
  return program !== KEEPALIVE_PROGRAM && isKnownProgram(program);
}

/** Whether this may be a message's length word alone: programs that read it first are seen to do so. */
export function mayBeLength(bytes: Buffer): boolean {
  return bytes.length === LENGTH_SIZE && isLengthValid(bytes.readUInt32BE(0));
}

/** Which side the first message of a connection comes from, by its type; `otherwise` for what both may send. */
export function callerIn(message: Buffer, otherwise: Side): Side {
  if (message.length < 20) return otherwise;
  const type = message.readInt32BE(16);
  if (type === MessageType.REPLY || type === MessageType.REPLY_WITH_FDS) return otherSide('client');
  return type === MessageType.CALL || type === MessageType.CALL_WITH_FDS ? 'client' : otherwise;
}
