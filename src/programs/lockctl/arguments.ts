/**
 * The command line, byte for byte. Node.js decodes it as UTF-8 and replaces invalid bytes with U+FFFD, but a file name may
 * have any bytes. Such an argument is read from /proc, and each byte of it that is not ASCII becomes the lone surrogate
 * U+DC00 + byte, which decoded text never contains. `toBytes` accepts both forms.
 */
import { commandLineOf } from '../../proc/processes.ts';

export function ownArguments(): string[] {
  const args = process.argv.slice(2);
  if (!args.some((arg) => arg.includes('\ufffd'))) return args;
  // The runtime, its options and the script come first.
  const real = commandLineOf('self').slice(-args.length);
  return real.map(keepBytes);
}

/** Bytes as text that `toBytes` converts back. */
export function keepBytes(bytes: string): string {
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  if (Buffer.from(text, 'utf8').toString('latin1') === bytes) return text;
  return bytes.replaceAll(/[\x80-\xff]/g, (byte) => String.fromCharCode(0xdc00 + byte.charCodeAt(0)));
}
