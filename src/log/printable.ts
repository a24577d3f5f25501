/**
 * Names from outside, made harmless for a terminal or a log: a guest may have any name, and none may move the cursor, begin a line,
 * or change the direction of text.
 */
import type { ByteString } from '../../xdr/codec.ts';

/** Printable ASCII but the backslash, which introduces escapes. */
const PLAIN = /^[ -[\]-~]*$/;

/** Valid code points that are not visible as such: controls, formats (bidi, joiners), separators. */
const UNSEEN = String.raw`[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]`;

/** Made on first use: each takes almost a millisecond, and most names are plain. */
let unseen: RegExp | undefined;
let utf8: InstanceType<typeof TextDecoder> | undefined;

/** The bytes as text: printable UTF-8 as it is, all other bytes and code points as `\n`, `\t`, `\xNN` or `\u{N}`. */
export function printable(bytes: ByteString): string {
  if (PLAIN.test(bytes)) return bytes;
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes.charCodeAt(at));
    const character = length === 0 ? null : decode(bytes.slice(at, at + length));
    if (character === null) {
      text += hex(bytes.charCodeAt(at));
      at++;
    } else {
      text += escapeCharacter(character);
      at += length;
    }
  }
  return text;
}

/** As {@link printable}, encoded: the log is written as bytes. */
export function printableBytes(bytes: ByteString): ByteString {
  return PLAIN.test(bytes) ? bytes : Buffer.from(printable(bytes), 'utf8').toString('latin1');
}

/** The length of a UTF-8 sequence that begins with this byte; 0 when none does. */
function sequenceLength(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

function decode(bytes: ByteString): string | null {
  try {
    utf8 ??= new TextDecoder('utf-8', { fatal: true });
    return utf8.decode(Buffer.from(bytes, 'latin1'));
  } catch {
    return null;
  }
}

function escapeCharacter(character: string): string {
  if (character === '\\') return '\\\\';
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  const code = character.codePointAt(0) ?? 0xfeff; // a decoded byte order mark vanishes
  if (code < 0x20 || code === 0x7f) return hex(code);
  unseen ??= new RegExp(UNSEEN, 'u');
  return code === 0xfeff || unseen.test(character) ? `\\u{${code.toString(16)}}` : character;
}

export function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}
