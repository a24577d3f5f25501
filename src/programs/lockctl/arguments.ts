/**
 * The command line, byte for byte. Node.js decodes it as UTF-8 and puts U+FFFD for what is none, but a file may be called
 * anything. Such an argument is read anew here, and each of its bytes beyond ASCII stands for itself as the lone surrogate
 * U+DC00 + byte, which no decoded text contains; `toBytes` knows both kinds.
 */
import { commandLineOf } from '../../proc/processes.ts';

/** This process's arguments. */
export function ownArguments(): string[] {
  const args = process.argv.slice(2);
  if (!args.some((arg) => arg.includes('\ufffd'))) return args;
  // In front of them stand the runtime, its options and the script.
  const real = commandLineOf('self').slice(-args.length);
  return real.map(keepBytes);
}

/** Bytes as text, from which `toBytes` makes the same bytes again. */
export function keepBytes(bytes: string): string {
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  if (Buffer.from(text, 'utf8').toString('latin1') === bytes) return text;
  return bytes.replaceAll(/[\x80-\xff]/g, (byte) => String.fromCharCode(0xdc00 + byte.charCodeAt(0)));
}
