import { fstatSync } from 'node:fs';

/** Whether a descriptor is a pipe or a socket, which may stay full for as long as its reader likes. */
export function isPipe(fd: number): boolean {
  const status = fstatSync(fd);
  return status.isFIFO() || status.isSocket();
}
