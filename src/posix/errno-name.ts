import { constants } from 'node:os';

/** Such as `EAGAIN`; undefined for a number that stands for no error. @param errno positive */
export function errnoName(errno: number): string | undefined {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
}
