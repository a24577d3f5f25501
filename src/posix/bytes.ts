/**
 * Names of files, words of the command line and values of the environment are byte strings inside the program (latin1, a
 * character a byte), as names from the wire are. Where Node.js decodes them, they are encoded again as they come in. Where it would
 * encode them, it gets a Buffer, or the decoded text.
 */
import { isUtf8 } from 'node:buffer';
import type { ByteString } from '../../xdr/codec.ts';

/** The bytes of a text that Node.js has decoded. */
export function bytesOf(text: string): ByteString {
  return isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

/** Bytes as a path that Node.js can open. */
export function toPath(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

/** The text that Node.js encodes to these bytes; undefined when they are no UTF-8. */
export function textOf(bytes: ByteString): string | undefined {
  if (isAscii(bytes)) return bytes;
  const buffer = toPath(bytes);
  return isUtf8(buffer) ? buffer.toString('utf8') : undefined;
}

function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text);
}

/** A command as child_process takes it. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A command of bytes, as child_process takes it. If that cannot encode a word or a value, a shell gets it spelt in octal. */
export function commandOf(
  words: readonly ByteString[],
  environment: Readonly<Record<ByteString, ByteString | undefined>> = {},
): Command {
  const env: Record<string, string> = {};
  const lines: string[] = [];
  for (const [name, value = ''] of Object.entries(environment)) {
    const [text, key] = [textOf(value), textOf(name)];
    if (text !== undefined && key !== undefined) env[key] = text;
    // A shell cannot set other names.
    else if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) lines.push(`${spell(value)}; export ${name}="\${word%.}"`);
  }
  const [file = '', ...args] = words.map(textOf);
  if (lines.length === 0 && words.every((word) => textOf(word) !== undefined)) {
    return { file, args: args.filter((arg) => arg !== undefined), env };
  }
  for (const word of words) lines.push(`${spell(word)}; set -- "$@" "\${word%.}"`);
  return { file: '/bin/sh', args: ['-c', [...lines, 'unset word', 'exec "$@"'].join('\n')], env };
}

/** Sets `word` to the bytes and a full stop, without which the shell would drop newlines at their end. */
function spell(bytes: ByteString): string {
  const octal = bytes.replaceAll(/[^]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `word=$(printf '${octal}.')`;
}
