/** Faults in framing, dispatch and limits. */
import { type Mutant, mutant } from './mutant.ts';

const dispatch = 'src/rpc/dispatch.ts';
const server = 'src/rpc/server.ts';
const errors = 'src/libvirt/errors.ts';
const frame = 'xdr/frame.ts';

export const wireMutants: readonly Mutant[] = [
  mutant(
    'a reply has the next serial',
    dispatch,
    'const start = this.beginReply(out, MessageStatus.OK);',
    'header.serial++;\n    const start = this.beginReply(out, MessageStatus.OK);',
    ['wire/serials-are-echoed'],
  ),
  mutant(
    'an error has serial 0',
    dispatch,
    'const start = this.beginReply(out, MessageStatus.ERROR);',
    'this.header.serial = 0;\n    const start = this.beginReply(out, MessageStatus.ERROR);',
    ['wire/an-unknown-program', 'wire/procedure-9'],
  ),
  mutant(
    'an error has status OK',
    dispatch,
    'this.beginReply(out, MessageStatus.ERROR)',
    'this.beginReply(out, MessageStatus.OK)',
    ['wire/an-unknown-program', 'wire/procedure-9'],
  ),
  mutant(
    'replies come in reverse',
    'src/rpc/outbox.ts',
    'if (count === 0) return;',
    `if (count === 0) return;
    for (let i = 0; i < count * SendRange.WORDS; i += SendRange.WORDS) {
      const [start, end] = [ranges[i + 1] ?? 0, ranges[i + 2] ?? 0];
      const all: Buffer[] = [];
      for (let at = start; at < end; at += writer.buffer.readUInt32BE(at)) {
        all.unshift(Buffer.from(writer.buffer.subarray(at, at + writer.buffer.readUInt32BE(at))));
      }
      Buffer.concat(all).copy(writer.buffer, start);
    }`,
    ['wire/thirty-requests-in-one-write'],
  ),
  mutant(
    'an empty reply carries a word of data',
    dispatch,
    'procedure.result.write(out, result);',
    'procedure.result.write(out, result);\n  if (result === undefined) out.u32(0);',
    ['lockd/register-twice'],
  ),
  mutant(
    'flags are not checked',
    dispatch,
    'checkFlags(program.domain, procedure.flags, (args as { flags: number }).flags);',
    '',
    ['lockd/flags-register-does-not-know-before-registering'],
  ),
  mutant(
    'a call with status ERROR is served',
    dispatch,
    'if (header.status !== MessageStatus.OK) throw',
    'if (header.status > MessageStatus.CONTINUE) throw',
    ['wire/status-1'],
  ),
  mutant('the version of the program is not checked', dispatch, ' && candidate.version === version)', ')', [
    'wire/version-2',
  ]),
  mutant('pings stay unanswered', dispatch, 'endMessage(out, beginMessage(out, pong));', '', [
    'wire/a-ping-on-the-lock-socket',
  ]),
  mutant(
    'a pong repeats the serial of the ping',
    dispatch,
    'serial: 0, status: MessageStatus.OK }',
    'status: MessageStatus.OK }',
    ['wire/a-ping-with-a-serial-on-the-lock-socket'],
  ),
  mutant(
    'a REPLY is served',
    dispatch,
    'if (type !== MessageType.CALL && type !== MessageType.CALL_WITH_FDS) return null;',
    'if (type > MessageType.CALL_WITH_FDS) return null;',
    ['wire/type-1'],
  ),
  mutant(
    'a message may be one byte longer than allowed',
    frame,
    '32 * 1024 * 1024 + LENGTH_SIZE',
    '32 * 1024 * 1024 + LENGTH_SIZE + 1',
    ['wire/length-33554437-and-nothing-else'],
  ),
  mutant('the longest message is refused', frame, '32 * 1024 * 1024 + LENGTH_SIZE', '32 * 1024 * 1024', [
    'wire/a-message-of-the-greatest-length',
    'wire/length-33554436-and-nothing-else',
  ]),
  mutant(
    'a name may be one byte longer',
    'xdr/programs/lock.ts',
    'LOCK_STRING_MAX = 65536',
    'LOCK_STRING_MAX = 65537',
    ['lockd/strings-at-their-limit'],
  ),
  mutant('the longest name is refused', 'xdr/programs/lock.ts', 'LOCK_STRING_MAX = 65536', 'LOCK_STRING_MAX = 65535', [
    'lockd/strings-at-their-limit',
  ]),
  mutant('33 descriptors may come', frame, 'DESCRIPTORS_MAX = 32', 'DESCRIPTORS_MAX = 33', [
    'wire/33-descriptors-announced',
  ]),
  mutant(
    'a system error has the wrong errno',
    errors,
    'ErrorCode.SYSTEM_ERROR, domain, `${detail}: ${strerror(errno)}`, errno)',
    'ErrorCode.SYSTEM_ERROR, domain, `${detail}: ${strerror(errno)}`, errno + 1)',
    ['lockspace/acquire-release-nothing'],
  ),
  mutant(
    "a system error has another errno's text",
    errors,
    'domain, `${detail}: ${strerror(errno)}`, errno)',
    'domain, `${detail}: ${strerror(errno + 1)}`, errno)',
    ['lockspace/acquire-release-nothing'],
  ),
  mutant("an error's second string is missing", errors, 'str2: detail,', 'str2: null,', [
    'lockd/restrict-before-registering',
  ]),
  mutant(
    'an error is worded differently',
    errors,
    "[ErrorCode.OPERATION_INVALID]: 'Requested operation is not valid'",
    "[ErrorCode.OPERATION_INVALID]: 'requested operation is not valid'",
    ['lockd/restrict-before-registering'],
  ),
  mutant(
    'one client too many is accepted',
    server,
    'Math.max(0, this.limits.maxClients - this.clientCount)',
    'Math.max(0, this.limits.maxClients + 1 - this.clientCount)',
    ['limits/max-clients-is-how-many-are-served-at-once', 'restart/a-full-server-stays-full'],
  ),
  mutant(
    'one client too few is accepted',
    server,
    'Math.max(0, this.limits.maxClients - this.clientCount)',
    'Math.max(0, this.limits.maxClients - 1 - this.clientCount)',
    ['limits/max-clients-is-how-many-are-served-at-once'],
  ),
  mutant("another user's connection is served", server, 'if (uid !== process.geteuid?.()) {', 'if (uid < 0) {', [
    'wire/another-user-is-not-served',
  ]),
  mutant(
    'ids of clients are used again',
    server,
    'this.nextId = Math.max(this.nextId, id + 1);',
    'this.nextId = this.clientCount + 1;',
    ['admin/ids-are-not-used-again'],
  ),
];
