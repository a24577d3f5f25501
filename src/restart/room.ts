/**
 * Descriptors that a program must find free when it is executed: without them it ends, and every lock is lost. By experiment,
 * with what remains of the program before counted: our runtime aborts with up to 11, crashes with up to 16 and cannot read its
 * own files with 17; with 18 it serves those who are there, with 20 newcomers, too. A C daemon ends with up to 3, and takes
 * newcomers with 6; each of its log files takes one more. Without one it cannot write its state at SIGUSR1, and ends.
 */

/** Our runtime's, with some for what it opens once it runs. */
export const RUNTIME_DESCRIPTORS = 32;
/** Those below the soft limit, which the runtime raises to the hard one: of a C daemon that writes its state, of our launcher. */
export const LAUNCHER_DESCRIPTORS = 8;
/** A C daemon's, its log files not counted. */
export const C_DESCRIPTORS = 16;

export interface Room {
  /** The process whose limit it is. */
  readonly pid: number;
  /** Numbers of descriptors are below it. */
  readonly limit: number;
  /** How many of those will be taken. */
  readonly used: number;
  readonly needed: number;
  /** The most that the limit can be raised to without a privilege. */
  readonly hard: number;
}

/** Why the program must not be executed, and what to do; undefined when there is room. */
export function lackOfRoom(what: string, { pid, limit, used, needed, hard }: Room): string | undefined {
  if (limit - used >= needed) return undefined;
  const enough = used + needed;
  return (
    `${what} needs ${needed} free descriptors, and of ${limit} ${Math.max(0, limit - used)} are free: ` +
    `raise the limit (prlimit --pid ${pid} --nofile=${enough}:${Math.max(enough, hard)}), or end what takes them`
  );
}

/** How many descriptors have numbers below a limit. */
export function countBelow(limit: number, descriptors: Iterable<number>): number {
  let count = 0;
  for (const fd of descriptors) if (fd < limit) count++;
  return count;
}
