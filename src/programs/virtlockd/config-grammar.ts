/**
 * The grammar of libvirt's configuration files: `name = value` lines, where a value is a number, a string or a list.
 * Pure: bytes in, entries out. It accepts and refuses as the C daemon does, in the same words
 * (test/wire/programs/virtlockd/cli.test.ts compares both).
 */

/** Numbers keep their sign, as C refuses a signed one only when it reads the setting. */
export type ConfigValue =
  | { kind: 'number'; value: bigint; signed: boolean }
  | { kind: 'string'; value: string }
  | { kind: 'list'; value: ConfigValue[] };

/** The file is no valid configuration. The message lacks the file's name that C appends. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** C counts digits in a 64-bit signed integer. */
const MAX_INTEGER = 2n ** 63n - 1n;

/** Deeper lists are refused, to protect the stack: C recurses without a bound. */
const DEEPEST = 1000;

/**
 * Reads a whole file. Of an entry given twice the first counts.
 *
 * @param file its name in errors
 * @throws ConfigError
 */
export function parseConfigEntries(text: string, file: string): Map<string, ConfigValue> {
  return new Parser(text, file).parse();
}

class Parser {
  private readonly text: string;
  private readonly file: string;
  private at = 0;
  private line = 1;

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
  }

  parse(): Map<string, ConfigValue> {
    const entries = new Map<string, ConfigValue>();
    while (this.at < this.text.length) {
      this.skipBlanksAndLines();
      if (this.peek() === '#') {
        this.skipComment();
      } else if (this.at < this.text.length || entries.size === 0) {
        // C refuses a file of blank lines only, but not an empty file.
        const name = this.name();
        const value = this.assignment();
        if (!entries.has(name)) entries.set(name, value);
      }
      if (this.at < this.text.length) this.skipBlanksAndLines();
    }
    return entries;
  }

  private peek(): string {
    return this.text.charAt(this.at);
  }

  private refuse(what: string): ConfigError {
    return new ConfigError(`configuration file syntax error: ${this.file}:${this.line}: ${what}`);
  }

  private skipBlanks(): void {
    while (this.peek() === ' ' || this.peek() === '\t') this.at++;
  }

  private skipBlanksAndLines(): void {
    for (; ' \t\r\n'.includes(this.peek()) && this.at < this.text.length; this.at++) {
      if (this.peek() === '\n') this.line++;
    }
  }

  /** To the end of the line. For C, a lone carriage return ends it, too. */
  private skipComment(): void {
    while (this.at < this.text.length && this.peek() !== '\n' && this.peek() !== '\r') this.at++;
  }

  private name(): string {
    const match = /[A-Za-z][A-Za-z0-9_]*/y;
    match.lastIndex = this.at;
    const name = match.exec(this.text)?.[0];
    if (name === undefined) throw this.refuse('expecting a name');
    this.at += name.length;
    return name;
  }

  /** `= value`, then a comment or a separator, and the end of the line. */
  private assignment(): ConfigValue {
    this.skipBlanks();
    if (this.peek() !== '=') throw this.refuse('expecting an assignment');
    this.at++;
    this.skipBlanks();
    const value = this.value(0);
    this.skipBlanks();
    if (this.peek() === '#') {
      this.skipComment();
    } else if (this.peek() === ';') {
      this.at++;
    } else if (this.at < this.text.length && !'\r\n'.includes(this.peek())) {
      throw this.refuse('expecting a separator');
    }
    return value;
  }

  private value(depth: number): ConfigValue {
    const first = this.peek();
    if (first === '"' || first === "'") return { kind: 'string', value: this.string(first) };
    if (first === '[' && depth < DEEPEST) return { kind: 'list', value: this.list(depth) };
    if (/[-+0-9]/.test(first)) return this.number();
    throw this.refuse('expecting a value');
  }

  private string(quote: string): string {
    // As C has it: three quotes open a long string only where a closing one could still follow.
    const long = this.text.length - this.at > 6 && this.text.startsWith('"""', this.at);
    if (long) {
      const end = this.text.indexOf('"""', this.at + 3);
      // Without an end C has read all but the last two bytes, and reports that line.
      const value = this.text.slice(this.at + 3, end < 0 ? -2 : end);
      this.line += value.split('\n').length - 1;
      if (end < 0) throw this.refuse('unterminated string');
      this.at = end + 3;
      return value;
    }
    const end = /["'\n\r]/g;
    end.lastIndex = this.at + 1;
    for (let found = end.exec(this.text); found !== null; found = end.exec(this.text)) {
      if (found[0] === quote) {
        const value = this.text.slice(this.at + 1, found.index);
        this.at = found.index + 1;
        return value;
      }
      if (found[0] === '\n' || found[0] === '\r') break;
    }
    throw this.refuse('unterminated string');
  }

  private list(depth: number): ConfigValue[] {
    const values: ConfigValue[] = [];
    this.at++;
    this.skipBlanksAndLines();
    if (this.at < this.text.length && this.peek() !== ']') {
      values.push(this.value(depth + 1));
      this.skipBlanksAndLines();
    }
    while (this.at < this.text.length && this.peek() !== ']') {
      if (this.peek() !== ',') throw this.refuse('expecting a separator in list');
      this.at++;
      this.skipBlanksAndLines();
      if (this.peek() === ']') break;
      values.push(this.value(depth + 1));
      this.skipBlanksAndLines();
    }
    if (this.peek() !== ']') throw this.refuse('list is not closed with ]');
    this.at++;
    return values;
  }

  private number(): ConfigValue {
    const match = /([-+]?)([0-9]*)/y;
    match.lastIndex = this.at;
    const [whole = '', sign = '', digits = ''] = match.exec(this.text) ?? [];
    if (digits === '') throw this.refuse('unterminated number');
    this.at += whole.length;
    const value = BigInt(digits);
    // From 11.3.0 on; earlier versions silently cut such a number to 64 bits.
    if (value > MAX_INTEGER)
      throw new ConfigError(`numerical overflow: ${this.file}:${this.line}: numeric overflow in conf value`);
    return { kind: 'number', value: sign === '-' ? -value : value, signed: sign === '-' };
  }
}
