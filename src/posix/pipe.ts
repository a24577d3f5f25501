/** What a descriptor is, for whoever writes to it. */
import { fstatSync } from 'node:fs';

/** Whether it is a pipe or a socket: full for as long as its reader likes, where a file takes what comes. */
export function isPipe(fd: number): boolean {
  const status = fstatSync(fd);
  return status.isFIFO() || status.isSocket();
}
