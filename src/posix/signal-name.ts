import { constants } from 'node:os';

/** For example `SIGKILL`; of a signal without a name, such as a real-time one, `signal 40`. */
export function signalName(signal: number): string {
  return Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] ?? `signal ${signal}`;
}
