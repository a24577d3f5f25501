/** Recognizes a lock daemon's connections in files that hold other traffic, or begin in the middle. */
import { KEEPALIVE_PROGRAM } from '../../../xdr/programs/keepalive.ts';
import { isLengthValid, LENGTH_SIZE, MessageType } from '../../../xdr/frame.ts';
import { otherSide, type Side } from './events.ts';
import { isKnownProgram } from './programs.ts';

/** Checks the length and the program of a message. Keepalive does not count, because libvirtd's own clients use it, too. */
export function beginsMessage(bytes: Buffer): boolean {
  if (bytes.length < 8 || !isLengthValid(bytes.readUInt32BE(0))) return false;
  const program = bytes.readUInt32BE(LENGTH_SIZE);
  return program !== KEEPALIVE_PROGRAM && isKnownProgram(program);
}

/** Whether this may be the length word of a message, which some programs read by itself. */
export function mayBeLength(bytes: Buffer): boolean {
  return bytes.length === LENGTH_SIZE && isLengthValid(bytes.readUInt32BE(0));
}

/** The sender of a connection's first message, by its type; `otherwise` if both sides may send that type. */
export function callerIn(message: Buffer, otherwise: Side): Side {
  if (message.length < 20) return otherwise;
  const type = message.readInt32BE(16);
  if (type === MessageType.REPLY || type === MessageType.REPLY_WITH_FDS) return otherSide('client');
  return type === MessageType.CALL || type === MessageType.CALL_WITH_FDS ? 'client' : otherwise;
}
