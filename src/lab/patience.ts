/**
 * How long daemons are waited for. The limits are those of an ordinary machine; a factor makes all of them longer where everything is slow,
 * such as under emulation. It is the whole process's, because so is the machine.
 */

let factor = 1;

/** @param times 1 or more */
export function setPatience(times: number): void {
  factor = times;
}

/** The limit here, of one that an ordinary machine has; both in ms. */
export function patient(limit: number): number {
  return limit * factor;
}
