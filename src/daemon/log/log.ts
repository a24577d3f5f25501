/** Stand-in until the logger proper arrives. */
type Text = string | (() => string);
export interface Logger {
  debug(text: Text): void;
  info(text: Text): void;
  warn(text: Text): void;
  error(text: Text): void;
}
export function logger(source: string): Logger {
  const emit = (level: string) => (text: Text) => {
    process.stderr.write(`${level}: ${source}: ${typeof text === 'string' ? text : text()}\n`);
  };
  return { debug: () => undefined, info: emit('info'), warn: emit('warning'), error: emit('error') };
}
