/**
 * Free descriptors that a program needs when it is executed: without them it ends, and every lock is lost. By experiment, with those
 * that remain of the previous program counted: our runtime aborts with up to 11, crashes with up to 16 and cannot read its own files
 * with 17; with 18 it serves its clients, with 20 newcomers, too. A C daemon ends with up to 3, and accepts newcomers with 6; each of
 * its log files takes one more. Without a free one it cannot write its state at SIGUSR1, and ends.
 */

/** For our runtime, with some to spare for its run. */
export const RUNTIME_DESCRIPTORS = 32;
/** Of these, what it needs once it has read its script. */
export const START_DESCRIPTORS = 16;
/** Below the soft limit, which the runtime raises to the hard one: for a C daemon that writes its state, and our launcher. */
export const LAUNCHER_DESCRIPTORS = 8;
/** For a C daemon without its log files. */
export const C_DESCRIPTORS = 16;

export interface Room {
  /** The process whose limit it is. */
  readonly pid: number;
  readonly limit: number;
  /** Descriptors below the limit that will be open. */
  readonly used: number;
  readonly needed: number;
  /** The most that the limit can be raised to without a privilege. */
  readonly hard: number;
}

/** The reason not to execute the program, and a remedy; undefined when there is room. */
export function lackOfRoom(what: string, { pid, limit, used, needed, hard }: Room): string | undefined {
  if (limit - used >= needed) return undefined;
  const enough = used + needed;
  return (
    `${what} needs ${needed} free descriptors, and of ${limit} ${Math.max(0, limit - used)} are free: ` +
    `raise the limit (prlimit --pid ${pid} --nofile=${enough}:${Math.max(enough, hard)}), or end what takes them`
  );
}

export function countBelow(limit: number, descriptors: Iterable<number>): number {
  let count = 0;
  for (const fd of descriptors) if (fd < limit) count++;
  return count;
}
